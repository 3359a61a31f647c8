# SPDX-License-Identifier: MIT OR Apache-2.0
# udev as the distribution ships it, and the coldplug a boot does.

storm() {
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    # The default gives up after 120 s; the lab's own time limit is what ends a run that hangs.
    must udevadm settle --timeout=3600
    mark settled
}
