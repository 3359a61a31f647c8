# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# The kernel's own requests are addonce's in the whole boot. They still are when the service is restarted, and when it was killed; and
# what stood in kernel.modprobe before stands there again when it is stopped, when it was killed for good, and when the package
# is purged. First the test that the package has for a whole machine, debian/tests/service.

OURS=/usr/bin/addonce-modprobe
helper_is() { [ "$(cat /proc/sys/kernel/modprobe)" = "$1" ] || fail "kernel.modprobe is $(cat /proc/sys/kernel/modprobe) and not $1: $2"; }
pid() { systemctl show -P MainPID addonce.service; }
# The service manager has started another daemon: another PID
another() {
    tries=300
    while [ "$(pid)" = "$1" ] || [ "$(systemctl is-active addonce.service)" != active ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "no other daemon was started"
        sleep 0.1
    done
    sleep 1
}
# The kernel asks for a file system: asks NAME
asks() {
    ! mount -t "$1" none /mnt 2>/dev/null || fail "$1 has mounted nothing"
    [ "$(cat /sys/module/"$1"/initstate)" = live ] || fail "$1 is not live"
}

afterwards() {
    must sh /lab/tests-service
    helper_is $OURS "the system was booted"
    asks minix
    done=$(addonce status --json | sed -n '/"kernel":/,/}/s/^ *"done": \([0-9]*\).*/\1/p')
    [ "$done" -gt 0 ] || fail "no request of the kernel's was answered"
    addonce status >>$LOG
    before=$(pid)
    must systemctl restart addonce.service
    another "$before"
    helper_is $OURS "the service was restarted"
    asks hfs
    ! addonce daemon --kernel-requests >>$LOG 2>&1 || fail "a second daemon runs"
    helper_is $OURS "a second daemon was refused"
    before=$(pid)
    kill -9 "$before"
    another "$before"
    helper_is $OURS "the daemon was killed"
    must systemctl stop addonce.socket addonce.service
    helper_is /sbin/modprobe "the service was stopped"
    asks hfsplus
    must systemctl start addonce.socket addonce.service
    sleep 1
    helper_is $OURS "the service was started"
    mkdir -p /run/systemd/system/addonce.service.d
    printf '[Service]\nRestart=no\n' >/run/systemd/system/addonce.service.d/once.conf
    must systemctl daemon-reload
    must systemctl stop addonce.socket
    kill -9 "$(pid)"
    tries=100
    until [ "$(systemctl is-active addonce.service)" != active ] || [ $tries = 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    sleep 2
    helper_is /sbin/modprobe "the daemon was killed, and no other one started"
    rm /run/systemd/system/addonce.service.d/once.conf
    must systemctl daemon-reload
    must systemctl restart addonce.socket addonce.service
    sleep 1
    helper_is $OURS "the service was started again"
    # Another image would take minutes, and boot-purged has seen it.
    ln -sf /bin/true /usr/sbin/update-initramfs
    kill -STOP "$(pid)"
    dpkg --purge addonce >>$LOG 2>&1 || fail "it cannot be purged"
    helper_is /sbin/modprobe "the daemon stood still and the package was purged"
    asks ufs
}
