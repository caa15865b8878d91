import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Echo servers and clients: streams with a thread each, and channels with one selector. */
public class Echo {
    public static void main(String[] args) throws Exception {
        int blocking = Integer.parseInt(args[1]), selecting = Integer.parseInt(args[2]);
        if (args[0].equals("server")) {
            new Thread(() -> run(() -> select(selecting))).start();
            accept(blocking);
        } else {
            client(blocking, selecting);
        }
    }

    static Object run(Callable<Object> work) {
        try {
            return work.call();
        } catch (Exception e) {
            e.printStackTrace();
            System.exit(1);
            return null;
        }
    }

    static void accept(int port) throws Exception {
        ServerSocket server = new ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"));
        while (true) {
            Socket socket = server.accept();
            new Thread(() -> run(() -> {
                try (socket) {
                    socket.setTcpNoDelay(true);
                    socket.getInputStream().transferTo(socket.getOutputStream());
                }
                return null;
            })).start();
        }
    }

    static Object select(int port) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel server = ServerSocketChannel.open();
        server.bind(new InetSocketAddress("127.0.0.1", port)).configureBlocking(false);
        server.register(selector, SelectionKey.OP_ACCEPT);
        while (true) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = server.accept();
                    channel.configureBlocking(false);
                    channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
                    channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(16384));
                } else {
                    echo(key);
                }
            }
            selector.selectedKeys().clear();
        }
    }

    /** Reads as long as the buffer has room, and waits until a channel can go on. */
    static void echo(SelectionKey key) throws Exception {
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        int read = key.isReadable() ? channel.read(buffer) : 0;
        buffer.flip();
        channel.write(buffer);
        buffer.compact();
        if (read < 0 && buffer.position() == 0) {
            channel.close();
            return;
        }
        int interest = buffer.position() > 0 ? SelectionKey.OP_WRITE : 0;
        key.interestOps(interest | (buffer.hasRemaining() ? SelectionKey.OP_READ : 0));
    }

    static void client(int... ports) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<String>> results = new ArrayList<>();
        for (int port : ports) {
            for (int i = 0; i < 4; i++) {
                int number = i;
                results.add(threads.submit(() -> stream(port, number)));
                results.add(threads.submit(() -> channel(port, number)));
            }
        }
        for (Future<String> result : results) {
            System.out.println(result.get());
        }
        threads.shutdown();
    }

    static byte[] message(int number, int i) {
        byte[] message = new byte[1 + (i * i * 31 + number) % 40000];
        for (int k = 0; k < message.length; k++) {
            message[k] = (byte) (k * 7 + i + number);
        }
        return message;
    }

    static String stream(int port, int number) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        try (Socket socket = new Socket("127.0.0.1", port)) {
            socket.setSoTimeout(30000);
            socket.setTcpNoDelay(true);
            DataInputStream in = new DataInputStream(socket.getInputStream());
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            for (int i = 0; i < 150; i++) {
                byte[] message = message(number, i);
                out.write(message);
                in.readFully(message);
                digest.update(message);
            }
            socket.shutdownOutput();
            return "stream " + number + " " + in.read() + " " + HexFormat.of().formatHex(digest.digest());
        }
    }

    static String channel(int port, int number) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        try (SocketChannel channel = SocketChannel.open(new InetSocketAddress("127.0.0.1", port));
             Selector selector = Selector.open()) {
            channel.configureBlocking(false);
            channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
            SelectionKey key = channel.register(selector, SelectionKey.OP_READ);
            for (int i = 0; i < 150; i++) {
                ByteBuffer out = ByteBuffer.wrap(message(number, i)), in = ByteBuffer.allocate(out.remaining());
                while (in.hasRemaining()) {
                    channel.write(out);
                    key.interestOps(SelectionKey.OP_READ | (out.hasRemaining() ? SelectionKey.OP_WRITE : 0));
                    selector.select();
                    selector.selectedKeys().clear();
                    channel.read(in);
                }
                digest.update(in.flip());
            }
            channel.shutdownOutput();
            selector.select();
            return "channel " + number + " " + channel.read(ByteBuffer.allocate(1)) + " "
                + HexFormat.of().formatHex(digest.digest());
        }
    }
}
