# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# modules: may be tried again
# No daemon: whichever `addonce load` serves is killed, twenty times, at random moments of the storm.

storm() {
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    mark trigger
    kill_often 20
    mark killed
    must udevadm settle --timeout=3600
}
# The oldest: it holds the lock, the others wait for it.
kill_one() { pkill -9 -o -x addonce; }
