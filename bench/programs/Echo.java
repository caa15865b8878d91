import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;

/**
 * Echo with one thread and a selector on both sides, one message of 64 bytes under way on each connection.
 *
 *   Echo serve 0|PATH                          prints its port (or 0) once it can be reached
 *   Echo talk PORT|PATH CONNECTIONS MILLIS     prints the messages per second
 */
public class Echo {
    static final int SIZE = 64;
    static final ByteBuffer buffer = ByteBuffer.allocateDirect(65536);

    static void watch(SocketChannel channel, Selector selector) throws IOException {
        channel.configureBlocking(false);
        channel.register(selector, SelectionKey.OP_READ);
    }

    /** Sends back the bytes that are there; returns their number, or -1 at an end of the connection of any kind. */
    static int answer(SocketChannel channel) {
        buffer.clear();
        try {
            int n = channel.read(buffer);
            buffer.flip();
            while (buffer.hasRemaining()) channel.write(buffer);
            return n;
        } catch (IOException gone) {
            return -1;
        }
    }

    static void serve(String address) throws IOException {
        var selector = Selector.open();
        var listener = NetPipe.listen(address);
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        for (;;) {
            selector.select();
            for (var key : selector.selectedKeys()) {
                if (key.isAcceptable()) watch(NetPipe.noDelay(address, listener.accept()), selector);
                else if (answer((SocketChannel) key.channel()) < 0) key.channel().close();
            }
            selector.selectedKeys().clear();
        }
    }

    /** The number of bytes that came back until this time. */
    static long exchange(Selector selector, long until) throws IOException {
        long bytes = 0;
        while (System.nanoTime() < until) {
            selector.select(100);
            for (var key : selector.selectedKeys()) {
                int n = answer((SocketChannel) key.channel());
                if (n < 0) throw new IOException("the server is gone");
                bytes += n;
            }
            selector.selectedKeys().clear();
        }
        return bytes;
    }

    static void talk(String address, int connections, long nanos) throws IOException {
        var selector = Selector.open();
        for (int i = 0; i < connections; i++) {
            var channel = NetPipe.noDelay(address, SocketChannel.open(NetPipe.address(address)));
            NetPipe.writeAll(channel, buffer, SIZE);
            watch(channel, selector);
        }
        exchange(selector, System.nanoTime() + 2 * nanos);
        long start = System.nanoTime(), bytes = exchange(selector, start + nanos);
        System.out.println((double) bytes / SIZE / ((System.nanoTime() - start) / 1e9));
    }

    public static void main(String[] arguments) throws IOException {
        if (arguments[0].equals("serve")) serve(arguments[1]);
        else talk(arguments[1], Integer.parseInt(arguments[2]), Long.parseLong(arguments[3]) * 1000000);
    }
}
