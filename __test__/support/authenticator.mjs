// What a person has besides a password: an authenticator (RFC 6238). And what a build has instead of one: an issuer of identity tokens.
import { createHmac, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const STEP = 30;

/** An authenticator. Each code is of a later step than the one before: the registry takes none twice. */
export class Authenticator {
  #key;
  #last = 0;

  /** @param {string} seed in base 32 */
  constructor(seed) {
    const bits = [...seed].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
    this.#key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  }

  /** The next code; waits for its time when those that are good now are used up. */
  async code() {
    for (;;) {
      const now = Math.floor(Date.now() / 1000 / STEP);
      const step = Math.max(this.#last + 1, now);
      // One step ahead is good too: clocks differ.
      if (step <= now + 1) {
        this.#last = step;
        return this.#at(step);
      }
      await sleep(500);
    }
  }

  #at(step) {
    const message = Buffer.alloc(8);
    message.writeBigUInt64BE(BigInt(step));
    const mac = createHmac('sha1', this.#key).update(message).digest();
    const number = mac.readUInt32BE(mac[mac.length - 1] & 15) & 0x7fffffff;
    return String(number % 1_000_000).padStart(6, '0');
  }
}

/** An issuer with an RSA key, as build services have one. */
export function issuer(url) {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'key-1', alg: 'RS256', use: 'sig' };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return {
    jwks: { keys: [jwk] },
    /** A token that says `claims` for five minutes. */
    token(claims) {
      const now = Math.floor(Date.now() / 1000);
      const message = `${part({ alg: 'RS256', typ: 'JWT', kid: 'key-1' })}.${part({ iss: url, iat: now, exp: now + 300, ...claims })}`;
      return `${message}.${sign('sha256', Buffer.from(message), privateKey).toString('base64url')}`;
    },
  };
}

/** An issuer that runs: its keys are found by its discovery document, and a build asks it for tokens as GitHub's do. */
export async function servedIssuer() {
  const asked = [];
  const builds = new Map();
  let own;
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, own.url);
    asked.push(pathname);
    const claims = builds.get(request.headers.authorization);
    const answers = {
      '/.well-known/openid-configuration': () => ({ issuer: own.url, jwks_uri: `${own.url}/keys` }),
      '/keys': () => own.jwks,
      '/token': () => claims && { value: own.token({ aud: searchParams.get('audience'), ...claims }) },
    };
    const answer = answers[pathname]?.();
    response.writeHead(answer ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? {}));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${server.address().port}`;
  own = { url, ...issuer(url) };
  return {
    url,
    /** Paths, in order. */
    asked,
    /** The environment of a build about which tokens say `claims`. */
    build(claims) {
      const secret = randomUUID();
      builds.set(`Bearer ${secret}`, claims);
      return { GITHUB_ACTIONS: 'true', CI: 'true', ACTIONS_ID_TOKEN_REQUEST_URL: `${url}/token?api-version=2.0`, ACTIONS_ID_TOKEN_REQUEST_TOKEN: secret };
    },
    close() {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}
