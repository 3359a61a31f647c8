# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# Stock udev, and `addonce record` beside it: the storm as the kernel announced it. The result's log is the capture.

storm() {
    addonce record /run/lab/capture 2>/run/lab/recorder &
    RECORDER=$!
    wait_for /run/lab/capture 60
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    must udevadm settle --timeout=3600
    kill -TERM $RECORDER
    wait $RECORDER || fail "the recorder: $(cat /run/lab/recorder)"
    cp /run/lab/capture $LOG
    mark settled
}
