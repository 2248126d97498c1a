#!/bin/bash
#
# Installs nova-rescue-ext into Nova's environment and switches it on in the
# nova.conf of every service.
#
#   enable_plugin nova-rescue-ext <URL of this repository>

# Save trace setting
_XTRACE_NOVA_RESCUE_EXT=$(set +o | grep xtrace)
set +o xtrace

function install_nova_rescue_ext {
    setup_develop $NOVA_RESCUE_EXT_DIR
}

# The configuration files of Nova's services on this host: nova.conf, that of
# nova-compute and those of the conductors of the cells.
function nova_rescue_ext_conf_files {
    local conf
    for conf in $NOVA_CONF $NOVA_CPU_CONF \
        $NOVA_CONF_DIR/nova_cell*.conf; do
        if [[ -f $conf ]]; then
            echo $conf
        fi
    done
}

function configure_nova_rescue_ext {
    local conf
    for conf in $(nova_rescue_ext_conf_files | sort -u); do
        iniset $conf DEFAULT config_source rescue_ext
        iniset $conf rescue_ext driver nova_rescue_ext
        iniset $conf rescue_ext default_api_version \
            $NOVA_RESCUE_EXT_DEFAULT_API_VERSION
        iniset $conf rescue_ext allow_unverified \
            $NOVA_RESCUE_EXT_ALLOW_UNVERIFIED
    done
    # For the log: services say the same when they start.
    $NOVA_BIN_DIR/nova-rescue-ext-status --config-file $NOVA_CONF \
        upgrade check || true
}

function unconfigure_nova_rescue_ext {
    local conf
    for conf in $(nova_rescue_ext_conf_files | sort -u); do
        inidelete $conf DEFAULT config_source
        inidelete $conf rescue_ext driver
        inidelete $conf rescue_ext default_api_version
        inidelete $conf rescue_ext allow_unverified
    done
}

if is_service_enabled nova; then
    if [[ "$1" == "stack" && "$2" == "install" ]]; then
        echo_summary "Installing nova-rescue-ext"
        install_nova_rescue_ext
    elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
        echo_summary "Configuring nova-rescue-ext"
        configure_nova_rescue_ext
    elif [[ "$1" == "unstack" ]]; then
        unconfigure_nova_rescue_ext
    fi
fi

# Restore xtrace
$_XTRACE_NOVA_RESCUE_EXT
