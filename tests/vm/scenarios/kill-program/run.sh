# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# modules: may be tried again
# No daemon: every `addonce load` that runs is killed, twenty times, at random moments of the storm.

storm() {
    coldplug
    kill_often 20
    udev_settled
}
# All that run: one holds the lock, the others wait for it.
kill_one() { killall -9 addonce 2>/dev/null; }
