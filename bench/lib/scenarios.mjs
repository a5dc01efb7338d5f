// What is measured: per scenario its servers and one sample of one server. A sample's `score` is a speed: more is better.
import { artifacts } from './seed.mjs';
import { check, load } from './get.mjs';
import { Blob, floorForms, forms, verifyAndRemove, verifyAndRemoveFloor } from './push.mjs';
import { requests, send } from './publish.mjs';
import { median, percentile } from './stats.mjs';

const MB = 1 << 20;
const metadata = ['listener', 'proxy', 'nodeHandler', 'fromWeb', 'express', 'nginx', 'nodeMemory', 'nodeWeb'];
const writers = ['listener', 'listenerRelaxed', 'nodeHandler', 'nodePut', 'nodePutFsync'];

export const scenarios = {
  'packument-10k': getting('hot packument, 10 KB', 'packument-10k', metadata),
  'packument-1m': getting('hot packument, 1 MB', 'packument-1m', metadata),
  'abbreviated-gzip': getting('the 1 MB packument abbreviated, gzip', 'abbreviated-1m.gz', metadata),
  manifest: getting('OCI manifest by tag', 'manifest', metadata),
  'with-token': getting('hot packument, 10 KB, with a token', 'packument-10k', ['listen', 'callback'], { token: true }),
  'blob-10k': getting('blob, 10 KB', 'blob-10k', ['listener', 'nodeHandler', 'fromWeb', 'nginx', 'nodeMemory', 'nodeFile']),
  'blob-64m': getting('blob, 64 MB', 'blob-64m', ['listener', 'nodeHandler', 'fromWeb', 'nginx', 'nodeFile'], { connections: 4, volume: true }),
  'push-put': pushing('blob push, 256 MB: POST, PUT with the body', 'put'),
  'push-patch': pushing('blob push, 256 MB: POST, streamed PATCH, PUT', 'patch'),
  'publish-1': publishing('npm publish of a new package, one after another', 1, 400),
  'publish-16': publishing('npm publish of a new package, 16 at a time', 16, 3000),
};

/** GETs of one artifact. With `volume` the speed is that of the bytes: few large answers are not counted in whole ones. With `token` a user asks. */
function getting(title, file, servers, { connections = 32, volume = false, token = false } = {}) {
  const { path, headers: own = {} } = artifacts.find((artifact) => artifact.file === file);
  const headersTo = (server) => (token ? { ...own, Authorization: `Bearer ${server.token}` } : own);
  const where = (server) => ({
    listener: path, proxy: path, listen: path, callback: path, nodeHandler: path, fromWeb: path, express: path,
    // It finds the compressed file by itself.
    nginx: `/${file.replace(/\.gz$/, '')}`,
  })[server.name] ?? `/${file}`;
  return {
    title,
    servers,
    unit: volume ? 'MB/s' : 'req/s',
    per: volume ? 'MB' : 'request',
    connections,
    async prepare(server, { bytes, box }) {
      await check(server, where(server), headersTo(server), bytes.get(file));
      await load(server, where(server), headersTo(server), { connections, seconds: 1, size: bytes.get(file).length, box });
    },
    async sample(server, { bytes, box, seconds, watch }) {
      const size = bytes.get(file).length;
      const { result, ...usage } = await watch(server.pid, () => load(server, where(server), headersTo(server), { connections, seconds, size, box }));
      const count = volume ? result.bytes / MB : result.requests;
      return { score: count / result.seconds, count, p50: result.p50, p99: result.p99, ...usage };
    },
  };
}

function pushing(title, form) {
  const isFloor = (server) => server.name.startsWith('nodePut');
  return {
    title,
    servers: writers,
    unit: 'MB/s',
    per: 'MB',
    connections: 1,
    async prepare(server, context) {
      if (!context.blob) {
        context.blob = new Blob(context.box, context.quick ? 16 * MB : 256 * MB);
        await context.blob.make();
      }
      await this.sample(server, context);
    },
    async sample(server, { blob, watch, settle }) {
      await blob.renew();
      await settle();
      const { result: seconds, ...usage } = await watch(server.pid, () => (isFloor(server) ? floorForms : forms)[form](server, blob));
      await (isFloor(server) ? verifyAndRemoveFloor : verifyAndRemove)(server, blob);
      const count = blob.size / MB;
      return { score: count / seconds, count, p50: seconds * 1000, ...usage };
    },
  };
}

function publishing(title, connections, most) {
  let sampled = 0;
  const publishSome = async (server, { seconds, watch, settle }, count) => {
    const list = await requests(count, `p${connections}-${(sampled += 1)}`, 10_000, server.token);
    await settle();
    const { result, ...usage } = await watch(server.pid, () => send(server, list, { connections, seconds }));
    const { latencies } = result;
    const p50 = median(latencies);
    // One at a time it is the latency that counts, and the median leaves out where the disk was busy with others.
    const score = connections === 1 ? 1000 / p50 : latencies.length / result.seconds;
    return { score, count: latencies.length, p50, p99: percentile(latencies, 0.99), ...usage };
  };
  return {
    title,
    servers: writers,
    unit: 'publishes/s',
    per: 'publish',
    connections,
    prepare: (server, context) => publishSome(server, context, 50),
    sample: (server, context) => publishSome(server, context, most),
  };
}
