# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The guests: Debian's kernel, busybox and one script, made on the spot.

The kernel's package is unpacked, not installed: the machine that the lab
runs on keeps the kernel that it has.
"""

import hashlib
import os
import pathlib
import re
import shutil

from tests.lab.cloud import process
from tests.lab.cloud import settings

_GUEST = settings.CHECKOUT / 'tests/lab/guest'
_WORK = settings.IMAGES / 'work'
# The cloud kernel starts twice as fast on an emulated processor, but knows
# neither SATA nor USB.
_KERNELS = {'cloud': 'linux-image-cloud-amd64', 'full': 'linux-image-amd64'}
_APPLETS = ('sh acpid base64 basename cat chmod cut dd echo grep head hexdump '
            'insmod ip mkdir mount poweroff printf readlink sed sha256sum '
            'sleep sync tail tr uname').split()
# What somebody who has logged in works with.
_APPLETS_SSH = 'cp ln ls mkdosfs rm umount'.split()
_SSHD = pathlib.Path('/usr/sbin/dropbear')
_MODULES = ('virtio_pci virtio_blk virtio_scsi virtio_net sd_mod sr_mod '
            'ata_piix isofs vfat nls_ascii nls_cp437 nls_iso8859_1 '
            'button evdev efivarfs').split()
_MORE_MODULES = {
    'cloud': [],
    'full': 'ahci usb_storage uhci_hcd ehci_pci xhci_pci'.split()}
_CMDLINE = ('console=ttyS0,115200 quiet panic=5 mitigations=off '
            'no_timer_check lab=')
_BOOTLOADER = pathlib.Path('/usr/lib/systemd/boot/efi/systemd-bootx64.efi')

_DISK = {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}
_CDROM = {'hw_rescue_device': 'cdrom'}
_OWN_KERNEL = {'kernel_id': 'kernel', 'ramdisk_id': 'ramdisk'}
# image name in Glance: (file, disk format, properties)
CATALOGUE = {
    'base': ('base.raw', 'raw', {}),
    'base-q35': ('base.raw', 'raw', {'hw_machine_type': 'q35'}),
    'base-uefi': ('base.raw', 'raw', {
        'hw_machine_type': 'q35', 'hw_firmware_type': 'uefi'}),
    'base-tpm': ('base.raw', 'raw', {
        'hw_tpm_version': '2.0', 'hw_tpm_model': 'tpm-tis'}),
    'base-scsi': ('base.raw', 'raw', {
        'hw_disk_bus': 'scsi', 'hw_scsi_model': 'virtio-scsi'}),
    'base-kernel': ('blank.raw', 'raw', {
        **_OWN_KERNEL, 'os_command_line': _CMDLINE + 'base'}),
    'rescue': ('rescue.raw', 'raw', {}),
    'rescue-stable': ('rescue.raw', 'raw', _DISK),
    'rescue-qcow2': ('rescue.qcow2', 'qcow2', _DISK),
    # Guests that one can log in to.
    'base-ssh': ('base-ssh.raw', 'raw', {}),
    'rescue-ssh': ('rescue-ssh.raw', 'raw', {
        **_DISK, 'os_rescue_ready_line': 'LAB ready role=rescue'}),
    'rescue-kernel': ('blank.raw', 'raw', _OWN_KERNEL),
    'rescue-stable-kernel': ('blank.raw', 'raw', {**_DISK, **_OWN_KERNEL}),
    'rescue-usb': ('rescue-full.raw', 'raw', {
        **_DISK, 'hw_rescue_bus': 'usb'}),
    'rescue-iso': ('rescue.iso', 'iso', {**_CDROM, 'hw_rescue_bus': 'ide'}),
    'rescue-iso-sata': ('rescue.iso', 'iso', {
        **_CDROM, 'hw_rescue_bus': 'sata'}),
    'rescue-uefi': ('rescue.raw', 'raw', {
        **_DISK, 'hw_machine_type': 'q35', 'hw_firmware_type': 'uefi'}),
    'rescue-uefi-legacy': ('rescue.raw', 'raw', {
        'hw_machine_type': 'q35', 'hw_firmware_type': 'uefi'}),
    'kernel': ('vmlinuz-cloud', 'aki', {}),
    'ramdisk': ('initrd-cloud', 'ari', {}),
}


def recipe():
    """What the images are made from, as a digest."""
    digest = hashlib.sha256()
    for path in (_GUEST / 'init', pathlib.Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build():
    """Make all images, unless they were made from the same recipe."""
    stamp = settings.IMAGES / 'recipe'
    if stamp.exists() and stamp.read_text() == recipe():
        return
    shutil.rmtree(settings.IMAGES, ignore_errors=True)
    _WORK.mkdir(parents=True)
    for kind, package in _KERNELS.items():
        _build_kernel(kind, package)
    _add_sshd('cloud', 'ssh')
    _build_disk('base', 'base', 'cloud')
    _build_disk('rescue', 'rescue', 'cloud')
    _build_disk('base-ssh', 'base', 'ssh')
    _build_disk('rescue-ssh', 'rescue', 'ssh')
    _build_disk('rescue-full', 'rescue', 'full')
    _build_iso('rescue', 'full')
    process.run('qemu-img', 'convert', '-O', 'qcow2',
                settings.IMAGES / 'rescue.raw',
                settings.IMAGES / 'rescue.qcow2')
    with open(settings.IMAGES / 'blank.raw', 'wb') as blank:
        blank.truncate(32 << 20)
    shutil.rmtree(_WORK)
    stamp.write_text(recipe())


def _build_kernel(kind, package):
    """Unpack a kernel and make the initial RAM disk, which is the guest."""
    work = _WORK / kind
    work.mkdir()
    # The package without a version in its name depends on the newest one.
    name = process.run('apt-cache', 'depends', package)
    name = name.split('Depends:')[1].split()[0]
    process.run('apt-get', 'download', name, cwd=work)
    process.run('dpkg-deb', '-x', *work.glob('linux-image*.deb'), work)
    if not (work / 'lib').exists():
        # From Debian 13 on. Its modprobe looks there, too.
        os.symlink('usr/lib', work / 'lib')
    version = next((work / 'lib/modules').iterdir()).name
    process.run('depmod', '-b', work, version)
    shutil.copy(work / f'boot/vmlinuz-{version}',
                settings.IMAGES / f'vmlinuz-{kind}')

    root = work / 'root'
    for folder in ('bin', 'lib', 'proc', 'sys', 'dev', 'etc'):
        (root / folder).mkdir(parents=True)
    shutil.copy('/bin/busybox', root / 'bin/busybox')
    for applet in _APPLETS:
        os.symlink('busybox', root / 'bin' / applet)
    shutil.copy(_GUEST / 'init', root / 'init')
    (root / 'init').chmod(0o755)
    modules = _copy_modules(work, version, [*_MODULES, *_MORE_MODULES[kind]])
    (root / 'modules').write_text('\n'.join(modules) + '\n')
    _pack(root, kind)


def _pack(root, kind):
    process.run('sh', '-c', 'find . | cpio --quiet -o -H newc | gzip -9 > '
                f'{settings.IMAGES}/initrd-{kind}', cwd=root)


def _add_sshd(kind, new_kind):
    """Make a guest that is another one and lets somebody in.

    The others are without: each has to unpack what it does not need.
    """
    root = _WORK / new_kind / 'root'
    shutil.copytree(_WORK / kind / 'root', root, symlinks=True)
    for applet in _APPLETS_SSH:
        os.symlink('busybox', root / 'bin' / applet)
    shutil.copy(_SSHD, root / 'bin')
    for library in re.findall(r'(?<= )/\S+|(?<=\t)/\S+',
                              process.run('ldd', _SSHD)):
        target = root / library.lstrip('/')
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    shutil.copy(settings.IMAGES / f'vmlinuz-{kind}',
                settings.IMAGES / f'vmlinuz-{new_kind}')
    _pack(root, new_kind)


def _copy_modules(work, version, modules):
    """Copy the modules and what they need; return the loading order."""
    order = []
    for module in modules:
        lines = process.run('modprobe', '-d', work, '-S', version,
                            '--show-depends', module)
        for line in lines.splitlines():
            kind, _, path = line.strip().partition(' ')
            path = pathlib.Path(path.strip())
            if kind == 'insmod' and path.name not in order:
                shutil.copy(path, work / 'root/lib' / path.name)
                order.append(path.name)
    # Compressed from Debian 13 on. busybox reads only what is not.
    for path in (work / 'root/lib').glob('*.ko.xz'):
        process.run('unxz', path)
    return [name.removesuffix('.xz') for name in order]


def _build_disk(name, role, kind):
    """A FAT disk that BIOS boots by syslinux and UEFI by systemd-boot."""
    disk = settings.IMAGES / f'{name}.raw'
    _make_fat(disk, 48, f'LAB-{role.upper()}')
    process.run('syslinux', '--install', disk)
    _write_loaders(_WORK / name, role, kind)
    _fill_fat(disk, _WORK / name)


def _make_fat(path, mib, label):
    with open(path, 'wb') as out:
        out.truncate(mib << 20)
    process.run('mkfs.vfat', '-n', label, path)


def _fill_fat(path, folder):
    process.run('mcopy', '-s', '-i', path, *sorted(folder.iterdir()), '::')


def _copy_kernel(kind, folder):
    shutil.copy(settings.IMAGES / f'vmlinuz-{kind}', folder / 'vmlinuz')
    shutil.copy(settings.IMAGES / f'initrd-{kind}', folder / 'initrd')


def _write_loaders(folder, role, kind):
    (folder / 'EFI/BOOT').mkdir(parents=True)
    (folder / 'loader/entries').mkdir(parents=True)
    _copy_kernel(kind, folder)
    shutil.copy(_BOOTLOADER, folder / 'EFI/BOOT/BOOTX64.EFI')
    (folder / 'loader/loader.conf').write_text('timeout 0\n')
    (folder / 'loader/entries/lab.conf').write_text(
        'title lab\nlinux /vmlinuz\ninitrd /initrd\n'
        f'options {_CMDLINE}{role}\n')
    (folder / 'syslinux.cfg').write_text(
        'SERIAL 0 115200\nDEFAULT lab\nPROMPT 0\nLABEL lab\n'
        f' KERNEL vmlinuz\n APPEND initrd=initrd {_CMDLINE}{role}\n')


def _build_iso(role, kind):
    """A guest as a CD, for BIOS (isolinux) and UEFI alike."""
    tree = _WORK / 'iso'
    (tree / 'isolinux').mkdir(parents=True)
    _copy_kernel(kind, tree)
    shutil.copy('/usr/lib/ISOLINUX/isolinux.bin', tree / 'isolinux')
    shutil.copy('/usr/lib/syslinux/modules/bios/ldlinux.c32',
                tree / 'isolinux')
    (tree / 'isolinux/isolinux.cfg').write_text(
        'SERIAL 0 115200\nDEFAULT lab\nPROMPT 0\nLABEL lab\n'
        f' KERNEL /vmlinuz\n APPEND initrd=/initrd {_CMDLINE}{role}\n')
    _make_fat(tree / 'efi.img', 32, 'LAB-EFI')
    _write_loaders(_WORK / 'efi', role, kind)
    _fill_fat(tree / 'efi.img', _WORK / 'efi')
    process.run(
        'xorriso', '-as', 'mkisofs', '-quiet', '-J', '-r',
        '-V', f'LAB-{role.upper()}',
        '-o', settings.IMAGES / f'{role}.iso',
        '-c', 'isolinux/boot.cat', '-b', 'isolinux/isolinux.bin',
        '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table',
        '-eltorito-alt-boot', '-e', 'efi.img', '-no-emul-boot', tree)


def upload(cloud):
    """Put them all into Glance, public; kernels first, as others name them."""
    have = {}
    for image in cloud.image.images():
        if image.properties.get('lab_recipe') == recipe():
            have[image.name] = image.id
        elif image.name in CATALOGUE:
            cloud.image.delete_image(image)
    for name in sorted(CATALOGUE, key=lambda n: n not in ('kernel',
                                                          'ramdisk')):
        if name in have:
            continue
        file, disk_format, properties = CATALOGUE[name]
        properties = {key: have.get(value, value)
                      if key in ('kernel_id', 'ramdisk_id') else value
                      for key, value in properties.items()}
        container = disk_format if disk_format in ('aki', 'ari') else 'bare'
        with open(settings.IMAGES / file, 'rb') as data:
            image = cloud.image.create_image(
                name=name, disk_format=disk_format, container=container,
                container_format=container, visibility='public', data=data,
                validate_checksum=False, lab_recipe=recipe(), **properties)
        have[name] = image.id
