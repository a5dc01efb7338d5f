// Blobs of any size, made as they are sent and hashed as they come: what a client does that keeps nothing.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import http from 'node:http';

const MIB = 1 << 20;

/** Chunks that are made as they are sent, and their digest. */
function source(bytes) {
  const hash = createHash('sha256');
  let left = bytes;
  let n = 0;
  return {
    digest: () => `sha256:${hash.digest('hex')}`,
    next() {
      if (left === 0) return null;
      const chunk = Buffer.alloc(Math.min(MIB, left), n++ & 0xff);
      left -= chunk.length;
      hash.update(chunk);
      return chunk;
    },
  };
}

/** Uploads by POST and one streamed PATCH, then PUT: the form whose digest is not known beforehand. Gives the digest. */
export async function upload(registry, authorization, bytes) {
  const start = await request(registry, 'POST', '/v2/big/blobs/uploads/', { authorization });
  assert.equal(start.status, 202);
  const body = source(bytes);
  const patched = await request(registry, 'PATCH', start.headers.location, { authorization, 'content-length': bytes }, body);
  assert.equal(patched.status, 202, patched.text);
  const digest = body.digest();
  const done = await request(registry, 'PUT', `${patched.headers.location}?digest=${digest}`, { authorization });
  assert.equal(done.status, 201, done.text);
  return digest;
}

/** Downloads, and makes sure that the bytes are right. */
export async function download(registry, authorization, digest) {
  const hash = createHash('sha256');
  const { status } = await request(registry, 'GET', `/v2/big/blobs/${digest}`, { authorization }, undefined, (chunk) => hash.update(chunk));
  assert.equal(status, 200);
  assert.equal(`sha256:${hash.digest('hex')}`, digest);
}

function request(registry, method, path, headers, body, take) {
  return new Promise((done, fail) => {
    const sent = http.request(new URL(path, registry.url), { method, headers }, (answer) => {
      let text = '';
      answer.on('data', take ?? ((chunk) => void (text += chunk)));
      answer.on('error', fail);
      answer.on('end', () => done({ status: answer.statusCode, headers: answer.headers, text }));
    });
    sent.on('error', fail);
    if (!body) return void sent.end();
    const send = () => {
      for (let chunk = body.next(); ; chunk = body.next()) {
        if (chunk === null) return void sent.end();
        if (!sent.write(chunk)) return void sent.once('drain', send);
      }
    };
    send();
  });
}
