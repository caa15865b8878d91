/* hold FD ORDERS: holds a connection, and carries out the orders that it reads from ORDERS: w (writes five bytes to
 * it), r (reads ten bytes from it, and writes one). Ends when the orders end. Linked statically, so no preloaded
 * library reaches it. */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char order, bytes[10];
    if (argc < 3)
        return 2;
    int fd = atoi(argv[1]), orders = atoi(argv[2]);
    while (read(orders, &order, 1) == 1) {
        size_t done = 0;
        for (ssize_t n = 1; order == 'r' && done < sizeof bytes && n > 0; done += n > 0 ? (size_t)n : 0)
            n = read(fd, bytes + done, sizeof bytes - done);
        size_t answer = order == 'w' ? 5 : 1;
        if ((order == 'r' && done < sizeof bytes) || write(fd, "hello", answer) != (ssize_t)answer)
            return 1;
    }
    return 0;
}
