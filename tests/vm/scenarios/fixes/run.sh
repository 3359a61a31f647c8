# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# modules: none
# Modules that fail, and then do not. udevd and one daemon run all the time; each case leaves marks in the trace and
# writes what it observes, and src/cases.rs says what is expected of it. No device of a case asks before its trigger:
# devices are made without an uevent, but for the one that is new hardware. A trigger is an ordinary one, narrowed down
# to the devices of the case so that the cases do not mix.

phase() { echo "lab: $CASE $1" >$T/trace_marker; }
observe() { echo "$CASE $*" >>/run/lab/cases; }
narrow() { must udevadm trigger --type=devices --action=add "$@"; }
ask() { narrow --subsystem-match=addonce --sysname-match="$CASE.*"; }
# Requests that joined a load, a kind of duplicates.
waiting() { addonce status --json | sed -n '/"duplicates":/,/}/s/^ *"loading": \([0-9]*\).*/\1/p'; }
# By the indentation: those of the kernel's own requests have a place of their own.
number() { addonce status --json | sed -n "s/^  \"$1\": \([0-9]*\).*/\1/p"; }

# As many devices as the machine has CPUs, all with one MODALIAS.
devices() {
    n=0
    while [ $n -lt $CPUS ]; do
        device $CASE.$n $CASE quiet
        n=$((n + 1))
    done
}

# Nothing is being done, and nothing is promised.
all_quiet() {
    must udevadm settle --timeout=3600
    must addonce settle --timeout 300
    while addonce failed --json >/run/lab/failed && grep -q '"again_in_ms": [0-9]' /run/lab/failed; do sleep 0.1; done
    must addonce settle --timeout 300
}

outcome() {
    # shellcheck disable=SC2046 # one line of words
    observe live $(live)
    # shellcheck disable=SC2046
    observe failed $(addonce failed --json | sed -n 's/^ *"module": "\(.*\)",*$/\1/p')
}

# Asked for twice in vain, then fixed by fix_CASE, then asked for once more: fix CASE ASK.
fix() {
    CASE=$1
    devices
    phase ask
    ask
    all_quiet
    again "$2"
}
again() {
    phase again
    ask
    all_quiet
    # The configuration is looked at once a second at most, and nobody edits faster than that.
    sleep 1
    phase fix
    fix_$CASE
    $1
    all_quiet
    outcome
}

# A device that did not ask before, and is not asked for with the others of its case.
ask_another() {
    device $CASE-another $CASE quiet
    narrow --subsystem-match=addonce --sysname-match=$CASE-another
}

# The module that is in the way of the case's, loaded by hand.
rival() {
    CASE=$1
    phase before
    must modprobe addonce_$1_rival
}

fix_cpu() { echo 'options addonce_cpu error=00' >/etc/modprobe.d/cpu.conf; }
fix_blacklist() { sed -i '/^blacklist addonce_blacklist$/d' /etc/modprobe.d/fixtures.conf; }
fix_replaced() { cp /lab/rebuilt/addonce_replaced.ko $EXTRA && must depmod; }
fix_missing() { mv /lab/addonce_missing_dep.ko $EXTRA; }
fix_unindexed() { mv /lab/addonce_unindexed_dep.ko $EXTRA && must depmod; }
fix_directory() {
    [ ! -e /run/modprobe.d ] || fail "/run/modprobe.d was there before"
    mkdir /run/modprobe.d
    echo 'options addonce_directory error=0' >/run/modprobe.d/directory.conf
}
fix_enodev() { must modprobe -r addonce_enodev_rival; }
fix_ebusy() { must modprobe -r addonce_ebusy_rival; }
# Loaded before anybody asks, by the kernel's name for it.
inner() {
    CASE=inner
    phase before
    must insmod $EXTRA/addonce_inner_current.ko
}
fix_inner() {
    observe failed-before "$(addonce failed | grep -c inner)"
    must rmmod addonce_inner
}
# modprobe would say that it is live.
fix_eexist() {
    # shellcheck disable=SC2046 # two words
    observe said $(addonce failed --json | sed -n '/"error": "E\(EXIST\|BUSY\)"/,/"stage"/s/^ *"\(error\|stage\)": "\(.*\)",*$/\2/p')
    must modprobe -r addonce_eexist_rival
}
fix_hand() {
    must modprobe addonce_hand error=0
    must addonce settle
    observe forgotten "$(addonce failed | grep -c '^addonce_hand ')"
}
fix_failing() { must modprobe addonce_failing_dep error=0; }
fix_stranger() { :; }
fix_cause() { sed -i 's/^options addonce_cause .*/options addonce_cause error=0/' /etc/modprobe.d/fixtures.conf; }
fix_conflict() { must modprobe -r addonce_conflict_rival; }
fix_indirect() {
    sed -i 's/^options addonce_indirect_dep .*/options addonce_indirect_dep error=0/' /etc/modprobe.d/fixtures.conf
}
fix_hotplug() {
    device hotplug.new hotplug
    must udevadm settle
}
fix_retry() {
    device retry.cure retry quiet
    must addonce retry addonce_retry >/dev/null
}

# Two hundred at once: clients CASE. The module lands when all are known to wait for it.
clients() {
    CASE=$1
    before=$(waiting)
    mkdir /run/lab/$CASE
    phase ask
    n=0
    while [ $n -lt 200 ]; do
        (
            said=$(addonce load addonce_$CASE 2>&1)
            echo "exit $?: $said" >/run/lab/$CASE/$n
        ) &
        n=$((n + 1))
    done
    until [ "$(waiting)" -ge $((before + 199)) ]; do sleep 1; done
    device $CASE.gate none quiet
    while [ "$(find /run/lab/$CASE -type f -size +0 | wc -l)" -lt 200 ]; do sleep 1; done
    all_quiet
    sort /run/lab/$CASE/* | uniq -c | sed "s/^ */$CASE answers /" >>/run/lab/cases
    outcome
}

# One device each for several modules, all asked for by one trigger: crowd CASE MODULE...
crowd() {
    CASE=$1
    shift
    for module; do device $CASE.$module $module quiet; done
    phase ask
    ask
    all_quiet
    outcome
}

# The same, but the devices appear one right after the other: where the time is taken, it is not udevadm's.
appear() {
    CASE=$1
    shift
    phase ask
    for module; do device $CASE.$module $module; done
}

until_live() {
    wait_for /sys/module/$1/initstate 60
    until [ "$(cat /sys/module/$1/initstate)" = live ]; do sleep 0.1; done
}

# A module's directory is there from before its init function is called: its insert call is in the kernel by then, and
# belongs to this phase. That addonce has begun the load says less: its thread may not have run yet.
until_hanging() {
    for module; do wait_for /sys/module/addonce_$module 60; done
}

hanging() {
    appear hang hang0
    until_hanging hang0
    appear swift swift
    until_live addonce_swift
    outcome
    # Now as many as may load at a time.
    appear hangs hang1 hang2 hang3 hang4 hang5 hang6 hang7
    until_hanging hang1 hang2 hang3 hang4 hang5 hang6 hang7
    appear late late
    until_live addonce_late
    outcome
}

disabled() {
    CASE=disabled
    devices
    echo 1 >/proc/sys/kernel/modules_disabled
    for which in ask again fix; do
        phase $which
        before=$(number requests)
        ask
        # The hanging modules hold udev's queue, so nothing settles before they are too old for that.
        until [ "$(number requests)" -ge $((before + CPUS)) ]; do sleep 0.1; done
        sleep 2
    done
    observe said "$(grep -c 'kernel.modules_disabled is 1' $LOG)"
    observe status "$(must addonce status | sed -n 's/^ *state: \(.*\)/\1/p')"
    outcome
}

prepare() {
    CPUS=$(find /sys/devices/system/cpu -maxdepth 1 -name 'cpu[0-9]*' | wc -l)
    must insmod $EXTRA/addonce_bus.ko
    mv $EXTRA/addonce_unindexed_dep.ko /lab
    mv $EXTRA/addonce_inner.ko $EXTRA/addonce_inner_current.ko
    must depmod 2>/dev/null
    mv $EXTRA/addonce_missing_dep.ko /lab
    # libkmod leaves it to the kernel since version 31, where the kernel can.
    kernel_unpacks=0
    version=$(kmod --version | sed -n 's/^kmod version \([0-9]*\).*/\1/p')
    [ "$version" -lt 31 ] || [ ! -e /sys/module/compression ] || kernel_unpacks=1
    say "fact kernel_unpacks $kernel_unpacks"
    udevd
}

storm() {
    # The scan asks, and udev's coldplug then says the same: one attempt.
    CASE=cpu
    phase ask
    addonce daemon --jobs 8 --clients 256 >>$LOG 2>&1 &
    DAEMON=$!
    wait_for /run/addonce/io.addonce 60
    trigger
    all_quiet
    ask() { narrow --subsystem-match=cpu; }
    again ask
    ask() { narrow --subsystem-match=addonce --sysname-match="$CASE.*"; }

    fix blacklist ask
    # Before the others run depmod, which would take the missing file for no dependency.
    fix missing ask
    fix replaced ask
    fix unindexed ask
    fix directory ask
    rival enodev
    fix enodev ask
    rival ebusy
    fix ebusy ask
    rival eexist
    fix eexist ask
    inner
    fix inner ask
    fix hand ask
    fix failing ask
    fix hotplug :
    fix retry :
    # Had the same devices asked again, they would be heard anyway. What another one is told depends on the fix alone.
    fix stranger ask_another
    fix cause ask_another
    rival conflict
    fix conflict ask_another
    fix indirect ask_another

    clients slow
    clients slowfail
    crowd share share00 share01 share02 share03 share04 share05 share06 share07 share08 share09 \
        share10 share11 share12 share13 share14 share15 share16 share17 share18 share19
    crowd soft soft
    crowd packed packed
    appear eight eight0 eight1 eight2 eight3 eight4 eight5 eight6 eight7
    all_quiet
    outcome
    hanging
    disabled
    CASE=end
    phase end
    kill -0 $DAEMON || fail "the daemon is gone"
    section cases </run/lab/cases
}
