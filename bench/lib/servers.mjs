// The servers under test and those they are compared with, each a process on a free port of 127.0.0.1.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts } from '../../__test__/support/ports.mjs';
import { basicAuth } from '../../__test__/support/wire.mjs';
import { startServer } from '../../__test__/support/process.mjs';
import { client } from '../../scripts/clients.mjs';
import { cli } from '../../scripts/lib/paths.mjs';

const LISTENING = /listening on http:\/\/127\.0\.0\.1:(\d+)/;

/** What each is, for the table. */
export const descriptions = {
  listener: 'ours: `smartregistry-native serve`, the native listener',
  proxy: 'ours: the listener over a folder of its own, with the first one as its upstream; warm',
  listen: 'ours: `listen()` in an application, with the built-in provider',
  callback: 'ours: the same with a provider in JavaScript, asked for every request (`validateToken`, `authorize`)',
  nodeHandler: 'ours: `nodeHandler()` under `node:http`',
  fromWeb: 'ours: `handleRequest()` and `Readable.fromWeb(body).pipe(res)` under `node:http`',
  express: 'ours: the same in Express 4, with `express.raw()` before it',
  listenerRelaxed: "ours: the listener with `durability: 'relaxed'`, which promises what `nodePut` does",
  nginx: 'nginx, static files with the bytes that we answered; 2 workers, `sendfile`, `gzip_static`',
  nodeMemory: '`node:http`, a fixed Buffer: `writeHead()` and `end()`',
  nodeWeb: '`node:http`, a Web stream of a fixed Buffer and `Readable.fromWeb(stream).pipe(res)`: what the way of `fromWeb` costs without us',
  nodeFile: '`node:http`, `fs.createReadStream().pipe(res)`',
  nodePut: '`node:http`, written to a file; what the kernel has not yet written is lost with the power',
  nodePutFsync: 'the same with `fsync` of files and folders before the answer, as ours does it',
};

const app = (name) => fileURLToPath(new URL(`../apps/${name}.mjs`, import.meta.url));
const expressApp = fileURLToPath(new URL('../../__test__/support/express-app.mjs', import.meta.url));

/** The Node programs, with their arguments. */
const programs = {
  listenerRelaxed: async ({ registry }) => [cli, 'serve', '--port', '0', '--config', await relaxed(registry)],
  proxy: async ({ registry }) => [cli, 'serve', '--port', '0', '--config', await proxied(registry)],
  listen: ({ registry }) => [app('listen'), registry.file],
  callback: ({ registry }) => [app('listen'), registry.file, 'callback'],
  nodeHandler: ({ registry }) => [app('node-handler'), registry.file],
  fromWeb: ({ registry }) => [app('from-web'), registry.file],
  express: ({ registry }) => [expressApp, registry.file, 'raw'],
  nodeMemory: ({ files }) => [app('memory'), files],
  nodeWeb: ({ files }) => [app('memory'), files, 'web'],
  nodeFile: ({ files }) => [app('file'), files],
  nodePut: ({ folder }) => [app('put'), folder],
  nodePutFsync: ({ folder }) => [app('put'), folder, '--fsync'],
};

/**
 * Starts the server `name` beside a running registry, which is the listener itself.
 *
 * @param {string} name a key of `descriptions`
 * @param {{ registry: any, files: string, token: string, ociToken: string }} context
 * @returns {Promise<{ name: string, pid: number, port: number, folder: string, token: string, basic?: string, stop: () => Promise<unknown> }>}
 */
export async function startBeside(name, context) {
  const { registry } = context;
  const { box } = registry;
  const folder = await box.folder(`written-${name}`);
  const common = { name, folder, token: context.token };
  const ours = { ...common, basic: basicAuth('bench', context.ociToken) };
  if (name === 'listener') return { ...ours, pid: registry.pid, port: registry.port, stop: async () => {} };
  if (name === 'nginx') return { ...common, ...(await nginx(context)) };
  const argv = [process.execPath, ...(await programs[name]({ ...context, folder }))];
  const server = await startServer(argv, { cwd: box.dir, env: { ...box.env, NODE_ENV: 'production' }, ready: LISTENING });
  return { ...(name.startsWith('nodePut') ? common : ours), pid: server.pid, port: Number(server.match[1]), stop: server.stop };
}

/** The same registry on the same folder, but for what a write waits for. */
async function relaxed({ config, box }) {
  const file = join(box.dir, 'relaxed.json');
  await writeFile(file, JSON.stringify({ ...config, storage: { ...config.storage, durability: 'relaxed' } }));
  return file;
}

/** A registry that has nothing of its own. */
async function proxied({ config, box, url }) {
  const file = join(box.dir, 'proxied.json');
  const upstream = (path) => ({ upstreams: [{ id: 'first', url: `${url}${path}`, priority: 1, enabled: true }] });
  const storage = { type: 'local', path: await box.folder('proxied') };
  await writeFile(file, JSON.stringify({ ...config, storage, upstreams: { npm: upstream('/npm'), oci: upstream('') } }));
  return file;
}

async function nginx({ registry: { box }, files }) {
  const { argv } = await client('nginx');
  const folder = await box.folder('nginx');
  const [port] = await freePorts(1);
  await mkdir(join(folder, 'tmp'));
  await writeFile(join(folder, 'nginx.conf'), nginxConfig(port, files, folder));
  // Its workers run when it says so, and they inherit the open socket.
  const server = await startServer([...argv, '-p', folder, '-c', join(folder, 'nginx.conf')], { cwd: folder, env: box.env, ready: /start worker process \d+\n[^]*start worker process \d+\n/ });
  return { pid: server.pid, port, stop: server.stop };
}

const nginxConfig = (port, files, folder) => `
daemon off;
# The folder belongs to whoever runs this, and nobody else may look into it.
${process.getuid() === 0 ? 'user root;' : ''}
worker_processes 2;
error_log stderr notice;
pid nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  gzip_static on;
  default_type application/json;
${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `  ${name}_temp_path ${folder}/tmp/${name};`).join('\n')}
  server {
    listen 127.0.0.1:${port} backlog=1024;
    root ${files};
  }
}
`;
