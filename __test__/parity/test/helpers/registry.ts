// What the tests of this suite share: registries over the S3 server that the environment names.
import { randomBytes, createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import * as qenv from '@push.rocks/qenv';
import { SmartRegistry, type IRegistryConfig } from '../../ts/index.js';

const testQenv = new qenv.Qenv('./', './.nogit');

export async function storageConfig(): Promise<IRegistryConfig['storage']> {
  return {
    accessKey: await testQenv.getEnvVarOnDemand('S3_ACCESSKEY'),
    accessSecret: await testQenv.getEnvVarOnDemand('S3_SECRETKEY'),
    endpoint: await testQenv.getEnvVarOnDemand('S3_ENDPOINT'),
    port: Number.parseInt(await testQenv.getEnvVarOnDemand('S3_PORT'), 10),
    useSsl: false,
    region: 'us-east-1',
    bucketName: `parity-${randomBytes(6).toString('hex')}`,
  };
}

export async function createTestRegistry(changes: Partial<IRegistryConfig> = {}): Promise<SmartRegistry> {
  const registry = new SmartRegistry({
    storage: await storageConfig(),
    auth: {
      jwtSecret: 'a secret of the parity suite, long enough',
      tokenStore: 'memory',
      npmTokens: { enabled: true },
      ociTokens: { enabled: true, realm: 'https://auth.example.com/token', service: 'parity' },
    },
    oci: { enabled: true, basePath: '/oci' },
    npm: { enabled: true, basePath: '/npm' },
    ...changes,
  });
  await registry.init();
  return registry;
}

export async function createTestTokens(registry: SmartRegistry) {
  const auth = registry.getAuthManager();
  const userId = await auth.authenticate({ username: 'testuser', password: 'testpass-17' });
  if (!userId) throw new Error('the test user was refused');
  return {
    userId,
    npmToken: await auth.createNpmToken(userId, false),
    readonlyToken: await auth.createNpmToken(userId, true),
    ociToken: await auth.createOciToken(userId, ['oci:repository:*:*'], 3600),
  };
}

export const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

export const digestOf = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A tarball with nothing but its package.json: one block of header, the file in whole blocks, two empty blocks. */
export function tarballOf(name: string, version: string, description = 'a test package'): Buffer {
  const content = Buffer.from(JSON.stringify({ name, version, description }));
  const header = Buffer.alloc(512);
  const field = (at: number, text: string) => header.write(text, at, 'latin1');
  field(0, 'package/package.json');
  field(100, '0000644\0');
  field(108, '0000000\0');
  field(116, '0000000\0');
  field(124, `${content.length.toString(8).padStart(11, '0')}\0`);
  field(136, '00000000000\0');
  field(148, '        ');
  field(156, '0');
  field(257, 'ustar\0' + '00');
  const sum = header.reduce((total, byte) => total + byte, 0);
  field(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return gzipSync(Buffer.concat([header, content, padding, Buffer.alloc(1024)]));
}

export function publishBody(name: string, version: string, description?: string) {
  const tarball = tarballOf(name, version, description);
  return {
    _id: name,
    name,
    'dist-tags': { latest: version },
    versions: {
      [version]: {
        name,
        version,
        dist: {
          integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
          shasum: createHash('sha1').update(tarball).digest('hex'),
          tarball: `http://localhost/npm/${name}/-/${name}-${version}.tgz`,
        },
      },
    },
    _attachments: { [`${name}-${version}.tgz`]: { content_type: 'application/octet-stream', data: tarball.toString('base64'), length: tarball.length } },
  };
}
