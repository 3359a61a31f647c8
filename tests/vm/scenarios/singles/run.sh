# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# modules: none
# One device at a time, whose module was unloaded, and after each a plain settle: with the daemon as a service and without, and
# both again while udevd may have one worker only, which then is the one that holds.

MODULES="eight0 eight1 eight2 eight3 eight4 eight5 eight6 eight7 pre post"

prepare() {
    must insmod $EXTRA/addonce_bus.ko
    for name in $MODULES; do device $name $name quiet; done
    udevd
}
ten() {
    for name in $MODULES; do
        [ ! -e /sys/module/addonce_$name ] || must rmmod addonce_$name
        before=$(inserts)
        must udevadm trigger --action=add /sys/bus/addonce/devices/$name
        must udevadm settle --timeout=100
        must_be_live addonce_$name "$1"
        [ "$(inserts)" = $((before + 1)) ] || fail "$1: $(($(inserts) - before)) insert calls for addonce_$name"
    done
    mark "$1"
}

storm() {
    must udevadm trigger --type=subsystems --action=add
    udev_settled
    ten "no service"
    must udevadm control --children-max=1
    ten "no service, one worker"
    listening
    ten "service, one worker"
    must udevadm control --children-max=16
    ten "service"
}
