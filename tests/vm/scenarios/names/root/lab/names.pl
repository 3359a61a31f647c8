# SPDX-License-Identifier: MIT OR Apache-2.0
#
# names.pl COUNT DAEMON: nobody has the kernel look for COUNT hash functions, no two alike, while root asks for a device a hundred
# times a second. Says how long each answer took, how long the daemon ran meanwhile, whatever it did, and how long the daemon and who
# asked could run and had no CPU: half of them at the most, 99 of 100, and all. What an emulator does in between counts as the daemon's.
# The guest has no modules of Perl: no strict, and numbers for what Socket and POSIX would name.
my @kinds = ("[", "]x[!-", "*?*?", "--set-version=0", "-C/etc/passwd ", "\$(reboot)", "`reboot`", ";reboot;|&", "\xff\xfe\x80", "\n\r\t\e[2J",
    "%s%n\\x00", "sha256,");
my ($count, $pid) = @ARGV;
my @took;

# clock_gettime(CLOCK_MONOTONIC)
sub now { my $time = "\0" x 16; syscall(228, 1, $time); my ($s, $ns) = unpack("qq", $time); return $s + $ns / 1e9 }

# ms that a process ran, and that it waited for a CPU: Documentation/scheduler/sched-stats.rst
sub ran { open(my $file, "/proc/$_[0]/schedstat") or die "$_[0]: $!"; return map { $_ / 1e6 } split " ", <$file> }
sub told {
    my ($what, $which) = @_;
    my @ms = sort { $a <=> $b } map { $$_[$which] } @took;
    return sprintf "%s %.2f, %.2f, %.2f ms", $what, $ms[@ms / 2], $ms[@ms * 0.99], $ms[-1];
}

my $nobody = fork() // die "fork: $!";
if (!$nobody) {
    $) = "65534 65534";
    $( = 65534;
    ($<, $>) = (65534, 65534);
    $< == 65534 && $> == 65534 or die "still root";
    for my $n (1 .. $count) {
        socket(my $socket, 38, 5, 0) or die "AF_ALG: $!";
        bind($socket, pack("S a14 L L a64", 38, "hash", 0, 0, "$kinds[$n % @kinds]$n")) and die "there is such a hash function";
    }
    exit 0;
}
my $begin = now();
socket(my $daemon, 1, 1, 0) or die "socket: $!";
connect($daemon, pack("S a*", 1, "/run/addonce/io.addonce\0")) or die "the daemon: $!";
until (waitpid($nobody, 1) == $nobody) {
    my ($daemon_ran, $daemon_waited, undef, undef, $waited) = (ran($pid), ran("self"));
    my $from = now();
    syswrite($daemon, '{"method":"io.addonce.Load","parameters":{"alias":"addonce_eight0","devpath":"/devices/' . @took . "\"}}\0") or die;
    my $reply = "";
    sysread($daemon, $reply, 4096, length $reply) or die "no answer" until $reply =~ /\0$/;
    my $took = 1000 * (now() - $from);
    my @after = (ran("self"), ran($pid));
    $reply =~ /"live"/ or die $reply;
    push @took, [$took, $after[3] - $daemon_ran, $after[4] - $daemon_waited, $after[1] - $waited, $from - $begin];
    select(undef, undef, undef, 0.01);
}
$? == 0 or die "nobody has failed: $?";
my ($slowest) = sort { $$b[0] <=> $$a[0] } @took;
printf "%d names in %.1f s; %d devices: %s; %s; %s; %s; of the slowest (%.1f s) %.2f ms the daemon ran %.2f ms and waited %.2f for a CPU, and who asked %.2f\n",
    $count, now() - $begin, scalar @took, told("answered within", 0), told("the daemon ran", 1), told("it waited for a CPU", 2),
    told("who asked did", 3), @$slowest[4, 0 .. 3];
