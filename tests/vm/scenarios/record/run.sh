# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# Stock udev, and `addonce record` beside it: the storm as the kernel announced it. The result's log is the capture.

storm() {
    addonce record /run/lab/capture 2>/run/lab/recorder &
    RECORDER=$!
    wait_for /run/lab/capture 60
    coldplug
    udev_settled
    kill -TERM $RECORDER
    wait $RECORDER || fail "the recorder: $(cat /run/lab/recorder)"
    cp /run/lab/capture $LOG
}
