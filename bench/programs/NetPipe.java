import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.StandardSocketOptions;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;

/**
 * One message there and back, blocking.
 *
 *   NetPipe serve 0|PATH                     prints its port (or 0) once it can be reached
 *   NetPipe talk PORT|PATH MILLIS SIZE,...   prints the mean nanoseconds of a round trip, for each size
 */
public class NetPipe {
    static boolean isPath(String address) {
        return address.startsWith("/");
    }

    static SocketAddress address(String text) {
        if (isPath(text)) return UnixDomainSocketAddress.of(text);
        return new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(text));
    }

    static ServerSocketChannel listen(String text) throws IOException {
        var family = isPath(text) ? StandardProtocolFamily.UNIX : StandardProtocolFamily.INET;
        var listener = ServerSocketChannel.open(family);
        listener.bind(address(text), 1024);
        System.out.println(isPath(text) ? 0 : ((InetSocketAddress) listener.getLocalAddress()).getPort());
        System.out.flush();
        return listener;
    }

    static SocketChannel noDelay(String text, SocketChannel channel) throws IOException {
        if (!isPath(text)) channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
        return channel;
    }

    static boolean readAll(SocketChannel channel, ByteBuffer buffer, int size) throws IOException {
        buffer.clear().limit(size);
        while (buffer.hasRemaining()) if (channel.read(buffer) < 0) return false;
        buffer.flip();
        return true;
    }

    static void writeAll(SocketChannel channel, ByteBuffer buffer, int size) throws IOException {
        buffer.clear().limit(size);
        while (buffer.hasRemaining()) channel.write(buffer);
    }

    static double measure(SocketChannel channel, ByteBuffer buffer, int size, long nanos) throws IOException {
        long count = 0, start = System.nanoTime(), warm = nanos / 2, time = start;
        for (boolean warming = true; warming || time - start < nanos; count++) {
            writeAll(channel, buffer, size);
            readAll(channel, buffer, size);
            time = System.nanoTime();
            if (warming && time - start >= warm) {
                warming = false;
                start = time;
                count = -1;
            }
        }
        return (double) (time - start) / count;
    }

    public static void main(String[] arguments) throws IOException {
        var buffer = ByteBuffer.allocateDirect(1 << 20);
        if (arguments[0].equals("serve")) {
            var channel = noDelay(arguments[1], listen(arguments[1]).accept());
            buffer.clear().limit(0);
            for (;;) {
                buffer.clear();
                if (channel.read(buffer) < 0) return;
                buffer.flip();
                while (buffer.hasRemaining()) channel.write(buffer);
            }
        }
        var channel = noDelay(arguments[1], SocketChannel.open(address(arguments[1])));
        long nanos = Long.parseLong(arguments[2]) * 1000000;
        for (var size : arguments[3].split(","))
            System.out.println(measure(channel, buffer, Integer.parseInt(size), nanos));
    }
}
