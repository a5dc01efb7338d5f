// S3 servers for the tests. Each answers on 127.0.0.1 and keeps its data in memory or in a folder that goes with it.
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { client } from '../../scripts/clients.mjs';
import { startServer } from './process.mjs';
import { startRgw } from './rgw.mjs';
import { sandbox } from './sandbox.mjs';

const starters = { moto: startMoto, smarts3: startSmarts3, rgw: startRgw };

/** Kinds of servers: `moto` speaks the dialect of AWS, `smarts3` ignores conditional writes, `rgw` is Ceph's. */
export const s3Kinds = Object.keys(starters);

/**
 * Starts an S3 server, or takes the one that the test runner has started for all files (the variable holds its descriptor as JSON).
 *
 * @param {string} kind
 * @returns {Promise<{ kind: string, storage: (bucketName?: string) => object, log: () => string, stop: () => Promise<void> }>}
 *   `storage()` gives an IStorageConfig of a new bucket that does not exist yet
 */
export async function startS3(kind) {
  const shared = process.env[sharedVariable(kind)];
  const server = shared ? { descriptor: JSON.parse(shared), log: () => '(kept by the test runner)', stop: async () => {} } : await starters[kind]();
  return {
    kind,
    storage: (bucketName = newBucket(kind)) => ({ ...server.descriptor, bucketName }),
    descriptor: server.descriptor,
    log: server.log,
    stop: async () => void (await server.stop()),
  };
}

/** Name of the environment variable that says why there is no server of Ceph's here. Only the runner sets it. */
export const missingRgw = 'SMARTREGISTRY_TEST_MISSING_RGW';

/** Name of the environment variable by which the runner lends its server of this kind to the test files. */
export const sharedVariable = (kind) => `SMARTREGISTRY_TEST_S3_${kind.toUpperCase()}`;

const newBucket = (kind) => `${kind}-${randomBytes(6).toString('hex')}`;

const descriptor = (port, accessKey, accessSecret) => ({
  endpoint: '127.0.0.1',
  port: Number(port),
  useSsl: false,
  accessKey,
  accessSecret,
  region: 'us-east-1',
});

async function startMoto() {
  const { argv } = await client('moto');
  const box = await sandbox('moto');
  const program = fileURLToPath(new URL('moto-server.py', import.meta.url));
  const server = await startServer([...argv, '-u', program, '-H', '127.0.0.1', '-p', '0'], {
    cwd: box.dir,
    env: box.env,
    ready: /Running on http:\/\/127\.0\.0\.1:(\d+)/,
  });
  return { descriptor: descriptor(server.match[1], 'testing', 'testing'), log: server.log, stop: () => server.stop().then(box.remove) };
}

async function startSmarts3() {
  const { file } = await client('smarts3');
  const box = await sandbox('smarts3');
  const program = fileURLToPath(new URL('smarts3-server.mjs', import.meta.url));
  const server = await startServer([process.execPath, program, file, await box.folder('buckets')], {
    cwd: box.dir,
    env: box.env,
    ready: /s3 server on port (\d+)/,
  });
  return { descriptor: descriptor(server.match[1], 'S3RVER', 'S3RVER'), log: server.log, stop: () => server.stop().then(box.remove) };
}
