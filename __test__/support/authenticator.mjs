// What a person has besides a password: an authenticator (RFC 6238). And what a build has instead of one: an issuer of identity tokens.
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
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
