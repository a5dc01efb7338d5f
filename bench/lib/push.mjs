// A blob pushed by curl, in the two forms that clients use, and the same bytes put to the floor.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { run } from '../../__test__/support/process.mjs';
import { noise } from '../../__test__/support/oci.mjs';
import { client } from '../../scripts/clients.mjs';
import { StepError } from '../../scripts/lib/run.mjs';

const PIECE = 8 << 20;
const REPOSITORY = 'bench/push';

/** The file that is pushed: other bytes for each sample, since a registry keeps the same bytes once. */
export class Blob {
  constructor(box, size) {
    Object.assign(this, { file: join(box.dir, 'blob'), size, box, count: 0 });
  }

  async make() {
    const file = await open(this.file, 'w');
    for (let at = 0; at < this.size; at += PIECE) await file.write(noise(Math.min(PIECE, this.size - at), `piece ${at}`));
    await file.close();
  }

  async renew() {
    this.count += 1;
    const file = await open(this.file, 'r+');
    await file.write(noise(64, `blob ${this.count}`), 0, 64, 0);
    await file.close();
    const hash = createHash('sha256');
    await pipeline(createReadStream(this.file, { highWaterMark: 1 << 20 }), hash);
    this.hex = hash.digest('hex');
  }
}

/** Both forms end with 201 and the blob in its place. Resolves with the seconds that the requests took. */
export const forms = {
  async put(server, blob) {
    const start = await request(server, blob, ['-X', 'POST'], uploads(server), 202);
    const put = await request(server, blob, ['-T', blob.file, ...octets], withDigest(server, start.location, blob), 201);
    return start.seconds + put.seconds;
  },
  async patch(server, blob) {
    const start = await request(server, blob, ['-X', 'POST'], uploads(server), 202);
    const patch = await request(server, blob, ['-X', 'PATCH', ...streamed(blob), ...octets], absolute(server, start.location), 202);
    const put = await request(server, blob, ['-X', 'PUT', '-H', 'Content-Length: 0'], withDigest(server, patch.location, blob), 201);
    return start.seconds + patch.seconds + put.seconds;
  },
};

/** The same to the floor, which takes it in one request. */
export const floorForms = {
  put: async (server, blob) => (await request(server, blob, ['-T', blob.file, ...octets], `http://127.0.0.1:${server.port}/blob`, 201)).seconds,
  patch: async (server, blob) => (await request(server, blob, ['-X', 'PUT', ...streamed(blob), ...octets], `http://127.0.0.1:${server.port}/blob`, 201)).seconds,
};

/** Looks whether the blob is there, whole, and takes it away: the next sample finds the same folder. */
export async function verifyAndRemove(server, blob) {
  const path = `/v2/${REPOSITORY}/blobs/sha256:${blob.hex}`;
  const { headers } = await request(server, blob, ['-I'], `http://127.0.0.1:${server.port}${path}`, 200);
  if (Number(headers['content-length']?.[0]) !== blob.size) throw new StepError(`${server.name} has ${headers['content-length']} bytes of the ${blob.size} pushed`);
  await request(server, blob, ['-X', 'DELETE'], `http://127.0.0.1:${server.port}${path}`, 202);
}

/** The floor names the file after the hash it computed. */
export async function verifyAndRemoveFloor(server, blob) {
  const file = await open(join(server.folder, blob.hex)).catch(() => {
    throw new StepError(`${server.name} has no file with the hash of what was put`);
  });
  const { size } = await file.stat();
  await file.close();
  if (size !== blob.size) throw new StepError(`${server.name} has ${size} bytes of the ${blob.size} put`);
  await rm(join(server.folder, blob.hex));
}

const octets = ['-H', 'Content-Type: application/octet-stream'];
/** As docker sends it: in chunks, the length unknown. */
const streamed = (blob) => ['-T', blob.file, '-H', 'Transfer-Encoding: chunked', '-H', 'Content-Length:'];
const uploads = (server) => `http://127.0.0.1:${server.port}/v2/${REPOSITORY}/blobs/uploads/`;
const absolute = (server, location) => new URL(location, `http://127.0.0.1:${server.port}`);

function withDigest(server, location, blob) {
  const url = absolute(server, location);
  url.searchParams.set('digest', `sha256:${blob.hex}`);
  return url;
}

async function request(server, blob, flags, url, expected) {
  const { argv } = await client('curl');
  const told = '%{http_code} %{time_total}\n%{header_json}';
  // curl asks first and waits for a 100 otherwise; the registry answers it, but a floor of few lines should not be measured by it.
  const login = server.basic ? ['-H', `Authorization: ${server.basic}`] : [];
  const command = [...argv, '-sS', '--max-time', '120', '-o', '/dev/null', '-w', told, '-H', 'Expect:', ...login, ...flags, String(url)];
  const { stdout } = (await run(command, { cwd: blob.box.dir, env: blob.box.env, seconds: 150 })).ok();
  const [, status, seconds, json] = stdout.match(/^(\d+) ([\d.]+)\n([^]*)$/);
  if (Number(status) !== expected) throw new StepError(`${server.name} answered a push with ${status} instead of ${expected}`);
  const headers = JSON.parse(json);
  return { seconds: Number(seconds), headers, location: headers.location?.[0] };
}
