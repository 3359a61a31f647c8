# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: order
# What is left when nobody has to find out what to load: udev without its rule for MODALIASes, all else as stock, and
# beside it one modprobe that is told the very modules, in an order in which each finds what it needs. ppdev and sg are
# udev's own, by rules that name them.

prepare() {
    mkdir -p /etc/udev/rules.d
    sed '/MODALIAS/d' /usr/lib/udev/rules.d/80-drivers.rules >/etc/udev/rules.d/80-drivers.rules
    ORDER=$(grep -vxE 'ppdev|sg' /lab/order)
}

storm() {
    # shellcheck disable=SC2086 # modules, a word each
    modprobe -abq $ORDER 2>>$LOG &
    LOADING=$!
    coldplug
    # It exits with 1: some modules fail, as they do with everybody.
    wait $LOADING
    mark loaded
    udev_settled
}

# Nothing was found out by anybody else.
afterwards() {
    udevadm test --action=add /sys/devices/system/cpu/cpu0 2>&1 | grep -q "kmod load" && fail "udev loads for a MODALIAS"
}
