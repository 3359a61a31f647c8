# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# devices: e1000e,romfile=,addr=10 e1000e,romfile=,addr=11
# not asked for: ahci libahci libata scsi_mod scsi_common sd_mod sr_mod cdrom sg
# What rules of an administrator's say before a module is loaded holds: with the daemon as a service, and once more without, with
# the modules unloaded.

driver() { basename "$(readlink /sys/bus/pci/devices/0000:00:$1/driver)"; }
rules_hold() {
    [ ! -e /sys/module/ahci ] || fail "$1: ahci was loaded, though a rule clears its MODALIAS"
    [ -z "$(driver 1f.2)" ] || fail "$1: the disk controller has the driver $(driver 1f.2)"
    [ "$(driver 10.0)" = pci-stub ] || fail "$1: the card with a driver_override has the driver '$(driver 10.0)'"
    [ "$(driver 11.0)" = e1000e ] || fail "$1: the other card has the driver '$(driver 11.0)'"
    mark "$1"
}
storm() {
    udevd
    listening
    trigger
    udev_settled
    rules_hold service
    kill $DAEMON
    wait $DAEMON
    DAEMON=
    must modprobe -r e1000e pci_stub
    echo >/sys/bus/pci/devices/0000:00:10.0/driver_override
    trigger
    udev_settled
    rules_hold program
    STORMS=2
    tries_explained 0
}
