# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# programs: at most 5 %
# The daemon as a service: it is there when udev is triggered.

storm() {
    udevd
    listening
    trigger
    udev_settled
}

# What an administrator would ask, once the storm counts as over.
afterwards() {
    sleep 6
    addonce failed | section failed
    addonce plot --json | section storm
}
