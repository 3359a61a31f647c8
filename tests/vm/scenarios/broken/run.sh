# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# modules: none
# addonce never loads less than stock udev: whatever is broken, a module that is asked for is live within 6 s.

prepare() {
    must insmod $EXTRA/addonce_bus.ko
    for name in eight0 eight1 eight2 eight3 eight4 eight5 eight6 eight7; do device $name $name quiet; done
    udevd
}
# Whether udev without addonce loads this as things are: udev_loads MODULE. With a read-only /run that of systemd 257 runs nothing for
# a device, so there is nothing to fall short of.
udev_loads() {
    mv /usr/bin/addonce-load /usr/bin/addonce-load.away
    must udevadm trigger --action=add /sys/bus/addonce/devices/$1
    tries=60
    until is_live addonce_$1 || [ $tries = 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    mv /usr/bin/addonce-load.away /usr/bin/addonce-load
    is_live addonce_$1
}
# It does not, which no udev before 257 is known for: unchecked WHAT
unchecked() {
    version=$(udevadm --version)
    [ "${version%% *}" -ge 257 ] || fail "$1: this udev loads nothing by itself"
    mark "not checked: $1"
}

# Asked for as things are: comes_in MODULE WHAT
comes_in() {
    now
    from=$NOW
    must udevadm trigger --action=add /sys/bus/addonce/devices/$1
    until is_live addonce_$1; do
        sleep 0.1
        now
        [ $((NOW - from)) -le 600 ] || fail "$2: addonce_$1 is not live after 6 s"
    done
    mark "$2"
    must udevadm settle --timeout=100
}

storm() {
    must udevadm trigger --type=subsystems --action=add
    udev_settled

    must mount --bind /run /run
    must mount -o remount,bind,ro /run
    ! touch /run/lab/writable 2>/dev/null || fail "/run is not read-only"
    if udev_loads eight6; then comes_in eight0 "read-only /run"; else unchecked "read-only /run"; fi
    must umount /run

    # As much as is there, and what is left of that.
    used=$(df -k /run | awk 'END { print $3 }')
    must mount -o remount,size=$((used + 16))k /run
    dd if=/dev/zero of=/run/lab/filling bs=4096 2>/dev/null
    ! echo x 2>/dev/null >/run/lab/writable || [ ! -s /run/lab/writable ] || fail "/run is not full"
    if udev_loads eight7; then comes_in eight1 "full /run"; else unchecked "full /run"; fi
    rm -f /run/lab/filling /run/lab/writable
    must mount -o remount,size=1g /run

    mv /usr/bin/addonce /usr/bin/addonce.away
    comes_in eight2 "no addonce"
    # A socket that nobody listens on, and nobody who would.
    /usr/bin/addonce.away daemon >>$LOG 2>&1 &
    DAEMON=$!
    wait_for /run/addonce/io.addonce 60
    kill -9 $DAEMON
    ln -s /usr/bin/false /usr/bin/addonce
    [ -S /run/addonce/io.addonce ] || fail "the killed daemon left no socket"
    comes_in eight3 "refused connection"
    rm /usr/bin/addonce
    mv /usr/bin/addonce.away /usr/bin/addonce

    rm -f /run/addonce/io.addonce
    listening
    kill -STOP $DAEMON
    comes_in eight4 "stopped daemon"
    kill -CONT $DAEMON

    # A rule without its program.
    kill $DAEMON
    wait $DAEMON
    mv /usr/bin/addonce-load /usr/bin/addonce-load.away
    comes_in eight5 "no addonce-load"
}
