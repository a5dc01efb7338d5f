// A line between two registries that breaks: it passes bytes on, and cuts connections in the middle.
import { createServer, connect } from 'node:net';

/**
 * @param {string} url where it leads
 * @param {{ after: (connection: number) => number }} options `after` says after how many bytes of an answer the connection of that number is cut
 * @returns {Promise<{ url: string, cuts: () => number, stop: () => void }>}
 */
export async function breakingLine(url, { after }) {
  const { hostname, port } = new URL(url);
  const open = new Set();
  let connections = 0;
  let cuts = 0;
  const server = createServer((near) => {
    let left = after((connections += 1));
    const far = connect(Number(port), hostname);
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.on('data', (chunk) => {
      near.write(chunk.subarray(0, left));
      left -= chunk.length;
      if (left > 0) return;
      cuts += 1;
      near.destroy();
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}${new URL(url).pathname}`,
    cuts: () => cuts,
    stop() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
