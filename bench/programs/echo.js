// Echo, one message of 64 bytes under way on each connection.
//
//   echo.js serve 0|PATH                        prints its port (or 0) once it can be reached
//   echo.js talk PORT|PATH CONNECTIONS MILLIS   prints the messages per second
'use strict';
const net = require('net');

const SIZE = 64;
const [role, address, connections, millis] = process.argv.slice(2);
const target = address.startsWith('/') ? { path: address } : { port: Number(address), host: '127.0.0.1' };

function serve() {
  const server = net.createServer({ noDelay: true }, (socket) => {
    socket.on('data', (bytes) => socket.write(bytes));
    socket.on('error', () => socket.destroy());
  });
  server.listen(target, () => console.log(target.path ? 0 : server.address().port));
}

function talk() {
  let bytes = 0;
  let start;
  for (let i = 0; i < Number(connections); i++) {
    const socket = net.connect({ ...target, noDelay: true }, () => socket.write(Buffer.alloc(SIZE)));
    socket.on('data', (some) => {
      bytes += some.length;
      socket.write(some);
    });
  }
  setTimeout(() => {
    bytes = 0;
    start = process.hrtime.bigint();
  }, 2 * Number(millis));
  setTimeout(() => {
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    console.log(bytes / SIZE / seconds);
    process.exit();
  }, 3 * Number(millis));
}

if (role === 'serve') serve();
else talk();
