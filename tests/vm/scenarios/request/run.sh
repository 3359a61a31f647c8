# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# needs: selftest
# needs: programs bash
# The kernel's own requests, many at once: /sbin/modprobe and addonce-modprobe by turns. Cases 0008 and 0009 are those of the
# kernel's own kmod.sh, unchanged: 58 requests by name for a module that is not loaded, 62 times get_fs_type(). Then the same without
# that script, whose own programs cost about as much as a storm of ours; and 58 requests for a module that is live, for a name without
# one, and for a module that says ENODEV. The third by turns is a program that exits at once, and one modprobe after it: no helper
# costs less. The log has a line for each storm, and one with its memory, read by src/request.rs. Afterwards: the same exit codes, a
# fix, a daemon that is stopped, ended, killed.

ROUNDS=5
SYSCTL=/proc/sys/kernel/modprobe
STOCK=/sbin/modprobe
OURS=/usr/bin/addonce-modprobe
FLOOR=/lab/no-modprobe
KMOD=/sys/devices/virtual/misc/test_kmod0

set_helper() { echo "$1" >$SYSCTL || fail "kernel.modprobe cannot be set to $1"; }
helper_is() { [ "$(cat $SYSCTL)" = "$1" ] || fail "kernel.modprobe is $(cat $SYSCTL) and not $1: $2"; }
selftest() { bash /lab/kmod.sh -s "$1"; }
# The kernel asks 58 times at once by this name, and each is to come to this: requests NAME RESULT
requests() {
    echo -n 1 >$KMOD/reset
    echo -n "$1" >$KMOD/config_test_driver
    echo -n 58 >$KMOD/config_num_threads
    echo -n 1 >$KMOD/trigger_config
    [ "$(cat $KMOD/test_result)" = "$2" ]
}
file_systems() {
    echo -n 1 >$KMOD/reset
    echo -n 2 >$KMOD/config_test_case
    echo -n xfs >$KMOD/config_test_fs
    echo -n 62 >$KMOD/config_num_threads
    echo -n 1 >$KMOD/trigger_config
    [ "$(cat $KMOD/test_result)" = 0 ]
}
# A program of two instructions: elf(5), then exit(0) of x86-64.
make_floor() {
    {
        printf '\177ELF\002\001\001\0\0\0\0\0\0\0\0\0\002\0\076\0\001\0\0\0\170\0\100\0\0\0\0\0'
        printf '\100\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\070\0\001\0\0\0\0\0\0\0'
        printf '\001\0\0\0\005\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\0\0\0\0\0\0\100\0\0\0\0\0'
        printf '\201\0\0\0\0\0\0\0\201\0\0\0\0\0\0\0\0\020\0\0\0\0\0\0\061\377\270\074\0\0\0\017\005'
    } >$FLOOR
    chmod +x $FLOOR
    $FLOOR || fail "$FLOOR does not run"
}
# What nobody does, and then one modprobe: least MODULE COMMAND...
least() {
    module=$1
    shift
    "$@"
    $STOCK -q -- "$module"
}
# Twenty times a second: hundredths since $FROM, kB below $FREE.
samples() {
    while :; do
        available
        now
        echo "$((NOW - FROM)):$((FREE - AVAILABLE))"
        read -r -t 0.05 _ <&7
    done >/run/lab/samples
}
# measure CASE HELPER COMMAND...
measure() {
    case=$1 who=$2
    shift 2
    echo >$T/trace
    available
    FREE=$AVAILABLE
    now
    FROM=$NOW
    samples &
    samples=$!
    busy
    jiffies=$BUSY
    now
    from=$NOW
    failed=0
    "$@" >>/run/lab/said 2>&1 || failed=1
    now
    TOOK=$((NOW - from))
    busy
    # Without what watches.
    cpu_time /proc/$samples/stat
    jiffies=$((BUSY - jiffies - JIFFIES))
    kill $samples
    wait $samples 2>/dev/null
    helpers=$(grep -cE "sched_process_exec: filename=($OURS|$FLOOR) " $T/trace)
    modprobes=$(grep -c "sched_process_exec: filename=$STOCK " $T/trace)
    inserts=$(grep -oE 'sys_f?init_module -> 0x[0-9a-f]+' $T/trace |
        sed 's/.*-> //' | sort | uniq -c | while read -r n value; do printf '%s:%s,' "$value" "$n"; done)
    echo "storm $case $who hundredths=$TOOK failed=$failed helpers=$helpers" \
        "modprobes=$modprobes inserts=${inserts:-none} jiffies=$jiffies" >>$LOG
    echo "memory $case $who $(tr '\n' ' ' </run/lab/samples)" >>$LOG
}
turn() {
    set_helper "$2"
    measure 0008 "$1" selftest 0008
    measure 0009 "$1" selftest 0009
    must modprobe -r test_module
    measure 0008-alone "$1" requests test_module 0
    must modprobe -r xfs
    measure 0009-alone "$1" file_systems
    measure live "$1" requests addonce_eight0 0
    measure nope "$1" requests lab-no-such-module 256
    measure enodev "$1" requests addonce_directory 256
}
least_turn() {
    set_helper $FLOOR
    measure 0008 least least test_module selftest 0008
    measure 0009 least least xfs selftest 0009
    must modprobe -r test_module xfs
    measure 0008-alone least least test_module requests test_module 0
    measure 0009-alone least least xfs file_systems
    must modprobe -r test_module xfs
}
# Both are called as the kernel calls them, for what is not live.
same_exit_code() {
    $STOCK -q -- "$1"
    theirs=$?
    [ ! -e "/sys/module/$1" ] || modprobe -r "$1" 2>/dev/null
    $OURS -q -- "$1"
    ours=$?
    [ $theirs = $ours ] || fail "$1: modprobe exits with $theirs and addonce-modprobe with $ours"
}

storm() {
    mkfifo /run/lab/nobody
    exec 7<>/run/lab/nobody
    echo 'filename ~ "*modprobe"' >$T/events/sched/sched_process_exec/filter || fail "no filter on sched_process_exec"
    make_floor
    udevd
    udev_settled
    helper_is $STOCK "nobody has changed it"
    listening --kernel-requests
    wait_for /run/addonce/modprobe 10
    sleep 0.2
    helper_is $OURS "the daemon is ready"
    must modprobe test_kmod
    must modprobe addonce_bus
    must modprobe addonce_eight0
    must udevadm settle --timeout=100
    for round in $(seq $ROUNDS); do
        turn stock $STOCK
        least_turn
        turn addonce $OURS
        mark "round $round"
    done

    for name in addonce_eight1 addonce-eight2 addonce_enodev addonce_directory lab-none net-pf-77 crypto-lab fs-lab fs-xfs fs-minix \
        crypto-sha512 net-pf-38 algif-hash "x y" addonce_failing addonce_slowfail nls_cp437 zlib-deflate; do
        same_exit_code "$name"
    done
    mark codes

    # Remembered for up to five seconds; then corrected.
    requests addonce_directory 256 || fail "addonce_directory came in"
    mkdir -p /etc/modprobe.d
    echo "options addonce_directory error=0" >/etc/modprobe.d/lab.conf
    requests addonce_directory 0 || fail "a corrected option does not help the next request"
    must_be_live addonce_directory
    mark fixed

    # In the middle of a storm, which takes two tenths of a second here.
    for round in 1 2 3; do
        modprobe -r test_module
        (
            sleep 0.05
            kill -STOP $DAEMON
        ) &
        stopper=$!
        measure stopped addonce requests test_module 0
        wait $stopper
        kill -CONT $DAEMON
        must addonce settle --timeout 60
    done
    mark stopped
    addonce status >>$LOG

    kill $DAEMON
    wait $DAEMON
    helper_is $STOCK "the daemon has ended"
    # Stopped in the middle, and then killed.
    for round in 1 2 3; do
        rm -f /run/addonce/io.addonce
        listening --kernel-requests
        must addonce settle --timeout 60
        helper_is $OURS "another daemon is ready"
        modprobe -r test_module
        (
            sleep 0.05
            kill -STOP $DAEMON
            sleep 0.3
            kill -9 $DAEMON
        ) &
        stopper=$!
        measure died addonce requests test_module 0
        wait $stopper
        wait $DAEMON 2>/dev/null
        DAEMON=
        helper_is $OURS "nobody could put it back"
    done
    for round in 1 2 3; do
        modprobe -r test_module
        measure killed addonce requests test_module 0
    done
    set_helper $STOCK
    mark killed
}
