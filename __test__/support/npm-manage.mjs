// What the tests of npm's managing commands share: a vulnerability that the registry knows of, and the check of a signature as clients do it.
import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';

/** `weak` below 2.0.0 is vulnerable, in a registry of this configuration. */
export const advisory = {
  id: 1001,
  url: 'https://advisories.example.com/GHSA-aaaa-bbbb-cccc',
  title: 'weak is too weak',
  severity: 'high',
  vulnerable_versions: '<2.0.0',
  cwe: ['CWE-79'],
  cvss: { score: 7.5, vectorString: null },
};

export const config = { npm: { enabled: true, basePath: '/npm', advisories: { weak: [advisory] } } };

const getJson = async (url) => (await fetch(url)).json();

export const packument = (site, name) => getJson(`${site.registry.npm}${name.replace('/', '%2f')}`);

/** Asserts that every version of a package carries a signature by one of the registry's keys, over what it is and hashes to. */
export async function assertSigned(site, name) {
  const { keys } = await getJson(`${site.registry.npm}-/npm/v1/keys`);
  const { versions } = await packument(site, name);
  for (const { version, dist } of Object.values(versions)) {
    const [{ keyid, sig }] = dist.signatures;
    const { key, keytype } = keys.find((one) => one.keyid === keyid);
    assert.equal(keytype, 'ecdsa-sha2-nistp256');
    const pem = createPublicKey({ key: Buffer.from(key, 'base64'), format: 'der', type: 'spki' });
    assert.ok(verify('sha256', Buffer.from(`${name}@${version}:${dist.integrity}`), pem, Buffer.from(sig, 'base64')), `${name}@${version}`);
  }
}
