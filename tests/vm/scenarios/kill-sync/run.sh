# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# modules: may be tried again
# A daemon that udev waits for that is killed twenty times in the storm, at random moments, and started again as systemd would.

daemon() {
    addonce daemon --scan --sync-udev >>$LOG 2>&1 &
    DAEMON=$!
}

storm() {
    daemon
    wait_for /run/addonce/io.addonce 60
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    mark trigger
    kill_often 20
    mark killed
    # What the last daemon loads may give udev work, and the other way round.
    must udevadm settle --timeout=3600
    must addonce settle --timeout 300
    must udevadm settle --timeout=3600
    must addonce settle --timeout 300
}
kill_one() {
    kill -9 $DAEMON
    sleep 0.1
    daemon
}
