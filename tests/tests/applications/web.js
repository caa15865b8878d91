// An HTTP server and a client that keeps its connections, with large bodies both ways. `server` or `client`, and a
// port.
'use strict';
const http = require('http');
const crypto = require('crypto');

const [what, port] = [process.argv[2], Number(process.argv[3])];
const body = (i) => Buffer.alloc(100 + ((i * i * 37) % 300000), crypto.createHash('sha256').update(`${i}`).digest());
const hash = (data) => crypto.createHash('sha256').update(data).digest('hex');

function collect(stream) {
  return new Promise((resolve, reject) => {
    const parts = [];
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => resolve(Buffer.concat(parts)));
    stream.on('error', reject);
  });
}

async function answer(request, response) {
  const sent = await collect(request);
  const number = Number(request.url.split('/').pop());
  response.setHeader('X-Hash', hash(sent));
  if (request.url.startsWith('/chunks/')) {
    for (let i = 0; i < 20; i++) response.write(body(number).subarray(0, 4000));
    response.end();
  } else {
    response.end(body(number));
  }
}

function ask(agent, method, path, data) {
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, method, port, host: '127.0.0.1', path }, async (response) => {
      const got = await collect(response);
      if (data && response.headers['x-hash'] !== hash(data)) reject(new Error('the server got something else'));
      resolve(`${response.statusCode} ${got.length} ${hash(got)}`);
    });
    request.on('error', reject);
    request.end(data);
  });
}

async function client() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const asked = [];
  for (let i = 0; i < 150; i++) {
    asked.push(ask(agent, 'GET', `/page/${i}`));
    if (i % 3 === 0) asked.push(ask(agent, 'POST', `/chunks/${i}`, body(i + 1)));
  }
  for (const line of await Promise.all(asked)) console.log(line);
  agent.destroy();
}

if (what === 'server') {
  const server = http.createServer(answer);
  server.keepAliveTimeout = 60000;
  server.listen(port, '127.0.0.1');
} else {
  client();
}
