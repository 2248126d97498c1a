# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Images, and the kernels and ramdisks that they boot with."""

from __future__ import annotations

import typing

from glanceclient import exc as glance_exc
from keystoneauth1 import exceptions as ks_exc
from nova import context as nova_context
from nova import exception as nova_exception
from nova.image import glance
from nova import objects

from nova_rescue_ext import claims
from nova_rescue_ext import exception
from nova_rescue_ext.i18n import _

# How users say in Nova that an image boots from its disk.
_NO_KERNEL = 'nokernel'

# An image as Nova's client gives it, or what a volume has of one.
Image = dict[str, typing.Any]


def find(context: nova_context.RequestContext, instance: objects.Instance,
         image_api: glance.API, image_id: object) -> typing.Optional[Image]:
    """Read what is visible with a context, whoever it belongs to.

    :param context: the RequestContext to ask with
    :param instance: the Instance, for the log
    :param image_api: Nova's client of Glance
    :param image_id: what should be the id of an image
    :returns: the image, or None if it does not exist or is not visible
    :raises: ImageServiceFails; ImageMalformed
    """
    if not claims.is_id(image_id):
        return None
    try:
        return image_api.get(context, image_id)
    except (nova_exception.ImageNotFound, nova_exception.ImageNotAuthorized,
            nova_exception.ImageBadRequest):
        return None
    except nova_exception.GlanceConnectionFailed:  # Nova has logged it
        raise exception.ImageServiceFails()
    except (glance_exc.HTTPException, ks_exc.ClientException) as exc:
        claims.log_failure(instance, 'Image %s' % image_id, 'Glance', exc)
        raise exception.ImageServiceFails()
    except ValueError as exc:
        # Nova parses two properties as JSON.
        raise exception.ImageMalformed(image=image_id, reason=exc)


def read(context: nova_context.RequestContext, instance: objects.Instance,
         image_api: glance.API, image_id: object,
         origin: claims.Origin) -> Image:
    """Read an image that a server may be given.

    :param context: the RequestContext to ask with
    :param instance: the Instance
    :param image_api: Nova's client of Glance
    :param image_id: what should be the id of an image
    :param origin: who says that the server is to have it
    :returns: the image
    :raises: ClaimRefused
    """
    image = find(context, instance, image_api, image_id)
    if image is None:
        if origin is claims.Origin.SERVER:
            raise claims.refusal(context, instance, _('image'), image_id)
        raise exception.NotVisible(what=_('image'), id=image_id)
    if (origin is claims.Origin.SERVER
            and not _may_read(context, instance, image)):
        claims.log_refusal(instance, 'image', image_id)
        raise claims.refusal(context, instance, _('image'), image_id)
    return image


def kernel_and_ramdisk(image: Image) -> tuple[str, str]:
    """What an image says that it boots with.

    :param image: the image
    :returns: (what should be the id of the kernel, that of the ramdisk), ''
        for none
    """
    kernel, ramdisk = (
        image.get('properties', {}).get(name) or '' for name in (
            'kernel_id', 'ramdisk_id'))
    if kernel == _NO_KERNEL:
        return '', ''
    return kernel, '' if ramdisk == _NO_KERNEL else ramdisk


def check_kernel_and_ramdisk(
        context: nova_context.RequestContext, instance: objects.Instance,
        image_api: glance.API, image: Image,
        origin: claims.Origin) -> tuple[str, str]:
    """Check that a server may be given what an image boots with.

    That is a claim of the image's owner, also if the image itself was named.
    Who names an image gives it away, with what the same owner made for it. A
    server or a volume that claims an image gives nothing away.

    :param context: the RequestContext that the image was read with
    :param instance: the Instance
    :param image_api: Nova's client of Glance
    :param image: the image, or what a volume has of one
    :param origin: who says that the server is to have the image
    :returns: (the id of the kernel, that of the ramdisk), '' for none
    :raises: ClaimRefused
    """
    ids = kernel_and_ramdisk(image)
    for what, part_id in zip(('kernel', 'ramdisk'), ids):
        if part_id:
            _check_part(context, instance, image_api, image, origin, what,
                        part_id)
    return ids


def _check_part(context: nova_context.RequestContext,
                instance: objects.Instance, image_api: glance.API,
                image: Image, origin: claims.Origin, what: str,
                part_id: str) -> None:
    words = {'kernel': _('kernel'), 'ramdisk': _('ramdisk')}[what]
    part = find(context, instance, image_api, part_id)
    if part is None:
        if origin is claims.Origin.OPERATOR:
            raise exception.NotVisible(what=words, id=part_id)
        raise claims.refusal(context, instance, words, part_id)
    if not _comes_with(context, instance, part, image, origin):
        claims.log_refusal(instance, what, part_id)
        raise claims.refusal(context, instance, words, part_id)
    if part.get('status') != 'active':
        raise exception.ImageNotActive(what=words, id=part_id,
                                       status=part.get('status'))


def _comes_with(context: nova_context.RequestContext,
                instance: objects.Instance, part: Image, image: Image,
                origin: claims.Origin) -> bool:
    return (origin is claims.Origin.OPERATOR
            or _may_read(context, instance, part)
            or (origin is claims.Origin.CALLER
                and part.get('owner') is not None
                and part['owner'] == image.get('owner')))


def _may_read(context: nova_context.RequestContext, instance: objects.Instance,
              image: Image) -> bool:
    """Whether a server's project may read what was read with a context."""
    return (claims.has_only_rights_of(context, instance)
            or bool(image.get('is_public'))
            or image.get('owner') == instance.project_id
            or _is_shared(context, instance, image['id']))


def _is_shared(context: nova_context.RequestContext,
               instance: objects.Instance, image_id: str) -> bool:
    """Whether an image is of the community or shared with a project.

    Nova's client does not tell. Its part below does.
    """
    client = glance.GlanceClientWrapper()
    try:
        visibility = client.call(context, 2, 'get', args=(image_id,))[
            'visibility']
        if visibility == 'shared':
            client.call(context, 2, 'get', controller='image_members',
                        args=(image_id, instance.project_id))
    except (glance_exc.HTTPNotFound, glance_exc.HTTPForbidden):
        return False
    except nova_exception.GlanceConnectionFailed:
        raise exception.ImageServiceFails()
    except (glance_exc.HTTPException, ks_exc.ClientException) as exc:
        claims.log_failure(instance, 'Image %s' % image_id, 'Glance', exc)
        raise exception.ImageServiceFails()
    return visibility in ('community', 'shared', 'public')
