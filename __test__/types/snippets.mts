// Programs as they stand in the README of the package that this one replaces, with the names that they take from elsewhere declared.
import express from 'express';
import { Readable } from 'stream';
import { SmartStorage } from '@push.rocks/smartstorage';
import { SmartRegistry, IRegistryConfig, StaticUpstreamProvider, IAuthProvider, IAuthToken, TRegistryProtocol, IStorageHooks, IStorageHookContext, streamToBuffer, streamToJson, toReadableStream } from '@push.rocks/smartregistry';

declare const blobData: Buffer, binaryPublishData: Buffer, zipBuffer: Buffer, wheelData: Buffer, gemBuffer: Buffer, packageData: any, req: any, res: any;
declare function getStorageUsage(orgId: string): Promise<number>;
declare function getQuota(orgId: string): Promise<number>;
declare function isProtectedPackage(key: string): Promise<boolean>;
declare const auditLog: { write(entry: object): Promise<void> };

const config: IRegistryConfig = {
  storage: { accessKey: 'your-s3-key', accessSecret: 'your-s3-secret', endpoint: 's3.example.com', port: 443, useSsl: true, region: 'us-east-1', bucketName: 'my-registry' },
  auth: { jwtSecret: 'your-secret-key', tokenStore: 'memory', npmTokens: { enabled: true }, ociTokens: { enabled: true, realm: 'https://auth.example.com/token', service: 'my-registry' } },
  oci: { enabled: true, basePath: '/oci' },
  npm: { enabled: true, basePath: '/npm' },
  maven: { enabled: true, basePath: '/maven' },
  cargo: { enabled: true, basePath: '/cargo' },
  composer: { enabled: true, basePath: '/composer' },
  pypi: { enabled: true, basePath: '/pypi' },
  rubygems: { enabled: true, basePath: '/rubygems' },
};

export async function quickStart() {
  const registry = new SmartRegistry(config);
  await registry.init();
  const response = await registry.handleRequest({ method: 'GET', path: '/npm/express', headers: {}, query: {} });
  return response;
}

export async function containers(registry: SmartRegistry) {
  await registry.handleRequest({ method: 'GET', path: '/oci/library/nginx/manifests/latest', headers: { 'Authorization': 'Bearer <token>' }, query: {} });
  const uploadInit = await registry.handleRequest({ method: 'POST', path: '/oci/myapp/blobs/uploads/', headers: { 'Authorization': 'Bearer <token>' }, query: {} });
  const uploadId = uploadInit.headers['Docker-Upload-UUID'];
  await registry.handleRequest({ method: 'PUT', path: `/oci/myapp/blobs/uploads/${uploadId}`, headers: { 'Authorization': 'Bearer <token>' }, query: { digest: 'sha256:abc123...' }, body: blobData });
}

export async function packages(registry: SmartRegistry) {
  await registry.handleRequest({
    method: 'PUT',
    path: '/npm/my-package',
    headers: { 'Authorization': 'Bearer <npm-token>' },
    query: {},
    body: {
      name: 'my-package',
      versions: { '1.0.0': {} },
      'dist-tags': { latest: '1.0.0' },
      _attachments: { 'my-package-1.0.0.tgz': { content_type: 'application/octet-stream', data: '<base64-tarball>', length: 12345 } },
    },
  });
  await registry.handleRequest({ method: 'GET', path: '/npm/-/v1/search', headers: {}, query: { text: 'express', size: '20' } });
  await registry.handleRequest({ method: 'PUT', path: '/cargo/api/v1/crates/new', headers: { 'Authorization': '<cargo-token>' }, query: {}, body: binaryPublishData });
  await registry.handleRequest({ method: 'PUT', path: '/composer/packages/vendor/package', headers: { 'Authorization': 'Bearer <composer-token>' }, query: {}, body: zipBuffer });
  await registry.handleRequest({
    method: 'POST',
    path: '/pypi/',
    headers: { 'Authorization': 'Bearer <pypi-token>', 'Content-Type': 'multipart/form-data' },
    query: {},
    body: { ':action': 'file_upload', protocol_version: '1', name: 'my-package', version: '1.0.0', filetype: 'bdist_wheel', content: wheelData, filename: 'my_package-1.0.0-py3-none-any.whl' },
  });
  await registry.handleRequest({ method: 'POST', path: '/rubygems/api/v1/gems', headers: { 'Authorization': '<rubygems-api-key>' }, query: {}, body: gemBuffer });
}

export async function authentication(registry: SmartRegistry) {
  const authManager = registry.getAuthManager();
  const userId = await authManager.authenticate({ username: 'user', password: 'pass' });
  const npmToken = await authManager.createNpmToken(userId, false);
  const ociToken = await authManager.createOciToken(userId, ['oci:repository:myapp:push'], 3600);
  const pypiToken = await authManager.createPypiToken(userId, false);
  const cargoToken = await authManager.createCargoToken(userId, false);
  const composerToken = await authManager.createComposerToken(userId, false);
  const rubygemsToken = await authManager.createRubyGemsToken(userId, false);
  const token = await authManager.validateToken(npmToken, 'npm');
  const canWrite = await authManager.authorize(token, 'npm:package:my-package', 'write');
  return [ociToken, pypiToken, cargoToken, composerToken, rubygemsToken, canWrite];
}

export function upstreams() {
  const upstreamProvider = new StaticUpstreamProvider({
    npm: {
      enabled: true,
      upstreams: [
        { id: 'company-private', url: 'https://npm.internal.example.com', priority: 1, enabled: true, scopeRules: [{ pattern: '@company/*', action: 'include' }], auth: { type: 'bearer', token: process.env.NPM_PRIVATE_TOKEN } },
        { id: 'public', url: 'https://npm.example.com', priority: 10, enabled: true, scopeRules: [{ pattern: '@company/*', action: 'exclude' }] },
      ],
      cache: { enabled: true, staleWhileRevalidate: true },
    },
    oci: { enabled: true, upstreams: [{ id: 'hub', url: 'https://oci.example.com', priority: 1, enabled: true }] },
  });
  return new SmartRegistry({ storage: {}, auth: {}, upstreamProvider, npm: { enabled: true, basePath: '/npm' }, oci: { enabled: true, basePath: '/oci' } });
}

class LdapAuthProvider implements IAuthProvider {
  ldapClient: any;
  sessionStore: any;
  checkPermissions: any;
  async init() {
    /* connect to LDAP */
  }
  async authenticate(credentials) {
    const result = await this.ldapClient.bind(credentials.username, credentials.password);
    return result.success ? credentials.username : null;
  }
  async validateToken(token: string, protocol?: TRegistryProtocol): Promise<IAuthToken | null> {
    const session = await this.sessionStore.get(token);
    return session ? { userId: session.userId, scopes: session.scopes } : null;
  }
  async createToken(userId: string, protocol: TRegistryProtocol, options?) {
    const token = crypto.randomUUID();
    await this.sessionStore.set(token, { userId, protocol, ...options });
    return token;
  }
  async revokeToken(token: string) {
    await this.sessionStore.delete(token);
  }
  async authorize(token: IAuthToken | null, resource: string, action: string) {
    if (!token) return action === 'read';
    return this.checkPermissions(token.userId, resource, action);
  }
}

const storageHooks: IStorageHooks = {
  async beforePut(ctx: IStorageHookContext) {
    if (ctx.actor?.orgId) {
      const usage = await getStorageUsage(ctx.actor.orgId);
      const quota = await getQuota(ctx.actor.orgId);
      if (usage + (ctx.metadata?.size || 0) > quota) {
        return { allowed: false, reason: 'Storage quota exceeded' };
      }
    }
    return { allowed: true };
  },
  async afterPut(ctx: IStorageHookContext) {
    await auditLog.write({ action: 'storage.put', key: ctx.key, protocol: ctx.protocol, actor: ctx.actor, timestamp: ctx.timestamp });
  },
  async beforeDelete(ctx: IStorageHookContext) {
    if (await isProtectedPackage(ctx.key)) {
      return { allowed: false, reason: 'Cannot delete protected package' };
    }
    return { allowed: true };
  },
};

export const extended = () => [new SmartRegistry({ ...config, authProvider: new LdapAuthProvider() }), new SmartRegistry({ ...config, storageHooks })];

export async function actors(registry: SmartRegistry) {
  await registry.handleRequest({
    method: 'PUT',
    path: '/npm/my-package',
    headers: { 'Authorization': 'Bearer <token>' },
    query: {},
    body: packageData,
    actor: { userId: 'user123', tokenId: 'token-abc', ip: req.ip, userAgent: req.headers['user-agent'], orgId: 'org-456' },
  });
}

export async function streams(registry: SmartRegistry) {
  const response = await registry.handleRequest({ method: 'GET', path: '/npm/x', headers: {}, query: {} });
  const buffer = await streamToBuffer(response.body);
  const data = await streamToJson(response.body);
  const stream = toReadableStream({ hello: 'world' });
  if (response.body) {
    Readable.fromWeb(response.body).pipe(res);
  } else {
    res.end();
  }
  return [buffer, data, stream];
}

export async function application() {
  const app = express();
  const registry = new SmartRegistry(config);
  await registry.init();
  app.all('*', async (req, res) => {
    const response = await registry.handleRequest({ method: req.method, path: req.path, headers: req.headers as Record<string, string>, query: req.query as Record<string, string>, body: req.body });
    res.status(response.status);
    for (const [key, value] of Object.entries(response.headers)) {
      res.setHeader(key, value);
    }
    if (response.body) {
      Readable.fromWeb(response.body).pipe(res);
    } else {
      res.end();
    }
  });
  app.listen(5000);
}

export async function testing() {
  const s3Server = await SmartStorage.createAndStart({ server: { port: 3456, silent: true }, storage: { cleanSlate: true } });
  const s3Descriptor = await s3Server.getStorageDescriptor();
  const registry = new SmartRegistry({
    storage: { ...s3Descriptor, bucketName: 'my-test-registry' },
    auth: { jwtSecret: 'test', tokenStore: 'memory', npmTokens: { enabled: true } },
    npm: { enabled: true, basePath: '/npm' },
    oci: { enabled: true, basePath: '/oci' },
  });
  await registry.init();
  await s3Server.stop();
}
