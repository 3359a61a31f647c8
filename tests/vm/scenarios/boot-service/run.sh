# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# The package was installed before the boot: the daemon loads, from before udev's coldplug.

# What an administrator would ask, once the storm counts as over.
afterwards() {
    with_addonce || return 0
    sleep 6
    addonce failed | section failed
    addonce plot --json | section storm
    addonce status --json >>$LOG
    journalctl --boot --no-pager --no-hostname --output short-monotonic --unit addonce.service >>$LOG
}
