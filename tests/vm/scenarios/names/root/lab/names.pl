# SPDX-License-Identifier: MIT OR Apache-2.0
#
# names.pl COUNT: nobody has the kernel look for COUNT hash functions, no two alike, while root asks for a device a hundred times a
# second. Says how long each answer took. The guest has no modules of Perl: no strict, and numbers for what Socket and POSIX would name.
my @kinds = ("[", "]x[!-", "*?*?", "--set-version=0", "-C/etc/passwd ", "\$(reboot)", "`reboot`", ";reboot;|&", "\xff\xfe\x80", "\n\r\t\e[2J",
    "%s%n\\x00", "sha256,");
my $count = shift;

# clock_gettime(CLOCK_MONOTONIC)
sub now { my $time = "\0" x 16; syscall(228, 1, $time); my ($s, $ns) = unpack("qq", $time); return $s + $ns / 1e9 }

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
my ($begin, @took) = now();
socket(my $daemon, 1, 1, 0) or die "socket: $!";
connect($daemon, pack("S a*", 1, "/run/addonce/io.addonce\0")) or die "the daemon: $!";
until (waitpid($nobody, 1) == $nobody) {
    my $from = now();
    syswrite($daemon, '{"method":"io.addonce.Load","parameters":{"alias":"addonce_eight0","devpath":"/devices/' . @took . "\"}}\0") or die;
    my $reply = "";
    sysread($daemon, $reply, 4096, length $reply) or die "no answer" until $reply =~ /\0$/;
    $reply =~ /"live"/ or die $reply;
    push @took, 1000 * (now() - $from);
    select(undef, undef, undef, 0.01);
}
$? == 0 or die "nobody has failed: $?";
@took = sort { $a <=> $b } @took;
printf "%d names in %.1f s; %d devices answered within %.2f ms, the slowest %.2f ms\n", $count, now() - $begin, scalar @took,
    $took[@took / 2], $took[-1];
