# Talks TCP inside a container, where nothing but perl is needed. It prints "error ..." and ends at the first byte that
# differs from what was sent.
#
#   echo PORT            sends back all bytes that come, on any number of connections
#   ask HOST PORT [N]    one connection for ever, or N rounds, and one that is renewed every 50 rounds; "round N" now and
#                        then, "ok" at the end
#   keep HOST PORT [N]   the same without the second connection
#   redis HOST PORT N, memcached HOST PORT N
#                        sets N values on one connection, reads them back on another, then "ok"
#   obey                 carries out commands from standard input, one per line: listen HOST PORT, connect FROM PORT TO
#                        PORT, accept, put TEXT, get N, close; answers each with a line
use strict;
use warnings;
use IO::Select;
use IO::Socket::IP;

$| = 1;
# The death of the peer is an error to report; it must not end this program.
$SIG{PIPE} = "IGNORE";
my ($what, @args) = @ARGV;

sub fail { print "error @_\n"; exit 1 }

# N bytes that no other round has.
sub bytes {
    my ($round, $n) = @_;
    my $line = "bytes of round $round, and nothing else; ";
    return substr($line x (1 + $n / length $line), 0, $n);
}

sub call {
    my ($host, $port) = @_;
    for (1 .. 200) {
        my $s = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_STREAM);
        return $s if $s;
        select undef, undef, undef, 0.05;
    }
    fail("no connection to $host $port: $@");
}

sub put {
    my ($s, $data) = @_;
    for (my $at = 0; $at < length $data;) {
        $at += syswrite($s, $data, length($data) - $at, $at) // fail("write: $!");
    }
}

# Waits where libipc sees it: on a busy machine the answer may always be there before it is read.
sub get {
    my ($s, $n) = @_;
    my $data = '';
    IO::Select->new($s)->can_read;
    while (length $data < $n) {
        my $got = sysread($s, $data, $n - length $data, length $data) // fail("read: $!");
        fail("end of stream") if $got == 0;
    }
    return $data;
}

sub same {
    my ($seen, $wanted, $of) = @_;
    fail("other bytes: $of") if $seen ne $wanted;
}

sub echo {
    my ($port) = @_;
    my $listener = IO::Socket::IP->new(LocalHost => '::', LocalPort => $port, Listen => 64, ReuseAddr => 1, V6Only => 0)
        // IO::Socket::IP->new(LocalHost => '0.0.0.0', LocalPort => $port, Listen => 64, ReuseAddr => 1)
        // fail("listen: $@");
    my $all = IO::Select->new($listener);
    while (1) {
        for my $s ($all->can_read) {
            if ($s == $listener) {
                $all->add(scalar $listener->accept);
            } elsif (sysread($s, my $data, 65536)) {
                put($s, $data);
            } else {
                $all->remove($s);
                close $s;
            }
        }
    }
}

sub ask {
    my ($host, $port, $rounds) = @_;
    my ($kept, $renewed) = (call($host, $port));
    for (my $i = 1; !$rounds || $i <= $rounds; $i++) {
        $renewed = call($host, $port) if $what eq 'ask' && $i % 50 == 1;
        for my $s ($kept, $renewed // ()) {
            my $data = bytes($i, 1 + $i * 977 % 20_000);
            put($s, $data);
            same(get($s, length $data), $data, "round $i");
        }
        print "round $i\n" if $i % 20 == 0;
        select undef, undef, undef, 0.002;
    }
    print "ok\n";
}

# The request that sets a key, its answer, the request that reads it, and the text around the value.
sub words {
    my ($key, $value) = @_;
    my $n = length $value;
    return ("set $key 0 0 $n\r\n$value\r\n", "STORED\r\n", "get $key\r\n", "VALUE $key 0 $n\r\n$value\r\nEND\r\n")
        if $what eq 'memcached';
    my $k = length $key;
    return (
        "*3\r\n\$3\r\nSET\r\n\$$k\r\n$key\r\n\$$n\r\n$value\r\n", "+OK\r\n",
        "*2\r\n\$3\r\nGET\r\n\$$k\r\n$key\r\n", "\$$n\r\n$value\r\n",
    );
}

sub store {
    my ($host, $port, $count) = @_;
    my ($writer, $reader) = (call($host, $port), call($host, $port));
    for my $i (1 .. $count) {
        my ($set, $stored, $get, $answer) = words("key$i", bytes($i, $i * 3571 % 100_000));
        put($writer, $set);
        same(get($writer, length $stored), $stored, "answer to set $i");
        put($reader, $get);
        same(get($reader, length $answer), $answer, "value $i");
    }
    print "ok\n";
    # ipcd can be asked about streams that are still open.
    sleep 600;
}

sub obey {
    my ($listener, $s);
    my %commands = (
        listen => sub {
            my ($host, $port) = @_;
            $listener = IO::Socket::IP->new(LocalHost => $host, LocalPort => $port, Listen => 64, ReuseAddr => 1)
                // fail("listen: $@");
        },
        connect => sub {
            my ($from, $port, $to, $to_port) = @_;
            $s = IO::Socket::IP->new(
                LocalHost => $from, LocalPort => $port, PeerHost => $to, PeerPort => $to_port, ReuseAddr => 1,
            ) // fail("connect: $@");
        },
        accept => sub { $s = $listener->accept // fail("accept: $!") },
        put => sub { put($s, $_[0]) },
        get => sub { return get($s, $_[0]) },
        close => sub { close $s },
    );
    # A wait for bytes that went elsewhere must not last for ever.
    $SIG{ALRM} = sub { fail("nothing came") };
    while (my $line = <STDIN>) {
        my ($name, @words) = split ' ', $line;
        alarm 30;
        my $answer = $commands{$name}->(@words);
        print $name eq 'get' ? "$answer\n" : "done\n";
    }
}

echo(@args) if $what eq 'echo';
ask(@args) if $what eq 'ask' || $what eq 'keep';
obey() if $what eq 'obey';
store(@args) if $what eq 'redis' || $what eq 'memcached';
