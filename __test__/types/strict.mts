// Programs of users who compile strictly.
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  AuthManager,
  CircuitBreaker,
  DefaultAuthProvider,
  NpmRegistry,
  OciRegistry,
  RegistryError,
  RegistryStorage,
  SmartRegistry,
  StaticUpstreamProvider,
  UpstreamCache,
  isReadableStream,
  streamToBuffer,
  streamToJson,
  toReadableStream,
  type IAuthProvider,
  type IAuthToken,
  type ICredentials,
  type IRegistryConfig,
  type IRequestContext,
  type IResponse,
  type IStorageHookContext,
  type IStorageHooks,
  type IRegistryInput,
  type IRequestInput,
  type ITokenOptions,
  type IUpstreamProvider,
  type TRegistryProtocol,
} from 'smartregistry-native';

const config: IRegistryConfig = {
  storage: { type: 'local', path: '/srv/registry', durability: 'relaxed' },
  auth: { jwtSecret: 'x', tokenStore: 'storage', npmTokens: { enabled: true }, visibility: [{ pattern: 'npm:package:@acme/*', visibility: 'private' }] },
  trustProxy: ['10.0.0.0/8'],
  npm: { enabled: true, basePath: '/npm' },
};
const registry: SmartRegistry = new SmartRegistry(config);
await registry.init();

const context: IRequestContext = { method: 'GET', path: '/npm/express', headers: { accept: ['a', 'b'], 'x-n': 1 }, query: { text: 'x', size: ['20'] }, actor: { userId: 'u', team: 'blue' } };
const response: IResponse = await registry.handleRequest(context);
const etag: string | undefined = response.headers['ETag'];
const status: number = response.status;
const reason: string | undefined = response.statusText;
if (response.body) {
  const { body } = response;
  Readable.fromWeb(body).pipe(process.stdout);
  await pipeline(Readable.fromWeb(body), process.stdout);
  for await (const chunk of body) {
    const bytes: Uint8Array = chunk;
    void bytes;
  }
  const [one, two] = body.tee();
  await streamToBuffer(one as typeof body);
  await streamToJson<{ ok: boolean }>(two as typeof body).then((json) => json.ok);
  new Response(body);
  const reader = body.getReader();
  const { done, value } = await reader.read();
  if (!done) value.byteLength;
  await body.cancel();
}

// Every form of a body.
for (const body of [Buffer.alloc(1), new Uint8Array(1), new ArrayBuffer(1), 'text', { name: 'x' }, ['a'], Readable.from(['x']), toReadableStream('x'), new Blob(['x']), undefined]) {
  await registry.handleRequest({ method: 'PUT', path: '/', headers: new Headers({ a: 'b' }), query: new URLSearchParams('a=b'), body });
}
async function* chunks() {
  yield new Uint8Array(1);
}
await registry.handleRequest({ method: 'PUT', path: '/', body: chunks(), rawBody: Buffer.alloc(0), token: 't' });

const wide: IRequestInput = { ...context, headers: undefined, query: 'a=b', rawBody: new Uint8Array(1) };
const least: IRegistryInput = { storage: { type: 'memory' }, auth: { tokenStore: 'memory' }, npm: { enabled: true, signing: { rotateDays: 90 } }, oci: { enabled: true } };
await new SmartRegistry(least).handleRequest(wide);
// @ts-expect-error a protocol says whether it is enabled
new SmartRegistry({ ...least, npm: { basePath: '/npm' } });
// @ts-expect-error a request has a path
await registry.handleRequest({ method: 'GET' });
new AuthManager({ tokenStore: 'memory' });
toReadableStream(chunks());
toReadableStream(Readable.from(['x']));

const auth: AuthManager = registry.getAuthManager();
const user: string | null = await auth.authenticate({ username: 'u', password: 'p' });
if (user) {
  const token: string = await auth.createNpmToken(user, true);
  const found: IAuthToken | null = await auth.validateToken(token, 'npm');
  const allowed: boolean = await auth.authorize(found, 'npm:package:x', 'write');
  const listed = await auth.listUserTokens(user);
  listed.map(({ key, created, readonly }) => [key, created, readonly]);
  await auth.createToken(user, 'cargo', { scopes: ['cargo:crate:*:write'], expiresAt: new Date() });
  void allowed;
}
const npm: NpmRegistry | undefined = registry.getRegistry('npm');
const oci: OciRegistry | undefined = registry.getRegistry('oci');
npm?.getBasePath().length;
oci?.handleRequest(context);
// @ts-expect-error there is no such protocol
registry.getRegistry('floppy');

new RegistryStorage({ type: 'memory' }, { afterPut: ({ key }) => console.log(key) });
const storage: RegistryStorage = registry.getStorage();
const bytes: Buffer | null = await storage.getObject('a');
await storage.putObject('a', 'b', { contentType: 'text/plain' });
const modified: Date | undefined = (await storage.getMetadata('a'))?.lastModified;

const server = await registry.listen({ port: 0, host: '::1', tls: { cert: '/cert.pem', key: Buffer.alloc(1) } });
server.unref().ref().url.length;
await server.close();
createServer(registry.nodeHandler()).listen(0);
await registry.destroy();

class Careful extends DefaultAuthProvider {
  async validateToken(token: string, protocol?: TRegistryProtocol): Promise<IAuthToken | null> {
    return token === 'door' ? { userId: 'porter', scopes: [] } : super.validateToken(token, protocol);
  }
  async listUserTokens(userId: string) {
    return (await super.listUserTokens(userId)).filter(({ name }) => name !== 'hidden');
  }
}
class Provider implements IAuthProvider {
  private users = new Map<string, string>();
  authenticate({ username, password }: ICredentials) {
    return this.users.get(username) === password ? username : null;
  }
  async validateToken(token: string, _protocol?: TRegistryProtocol): Promise<IAuthToken | null> {
    return { type: 'npm', userId: token, scopes: [], readonly: false };
  }
  async createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): Promise<string> {
    return `${userId}${protocol}${options?.readonly}`;
  }
  async revokeToken(_token: string) {}
  async authorize(token: IAuthToken | null, resource: string, action: string): Promise<boolean> {
    return token !== null || (resource !== '' && action === 'read');
  }
}
const hooks: IStorageHooks = {
  beforePut: (ctx: IStorageHookContext) => ({ allowed: (ctx.metadata?.size ?? 0) < 10, reason: ctx.actor?.orgId }),
  async afterGet({ timestamp }) {
    timestamp.getTime();
  },
};
const upstream: IUpstreamProvider = new StaticUpstreamProvider({ npm: { enabled: true, upstreams: [{ id: 'a', url: 'https://npm.example.com', priority: 1, enabled: true }] } });
new SmartRegistry({ ...config, authProvider: new Provider(), storageHooks: hooks, upstreamProvider: upstream });
new SmartRegistry({ ...config, authProvider: new Careful({ jwtSecret: 'x' }) });
try {
  // @ts-expect-error storage is missing
  new SmartRegistry({ npm: { enabled: true } });
} catch (error) {
  if (error instanceof RegistryError) [error.code, error.option, error.status];
}
const cleaned: SmartRegistry = new SmartRegistry({
  ...config,
  maintenance: { enabled: false },
  oci: { enabled: true, gc: { untagged: 'delete', untaggedAgeMs: 1000 }, retention: [{ tags: ['v*'], keepLastPushed: 5, keepPulledDays: 30 }] },
});
// @ts-expect-error there is no such rule
new SmartRegistry({ ...config, oci: { enabled: true, retention: [{ keepLast: 1 }] } });
const { protocols, dryRun } = await cleaned.gc({ dryRun: true, onProgress: ({ phase, done, total }) => void [phase, done, total] });
const freed: number = protocols.oci?.bytes ?? 0;
void [freed, dryRun, protocols.oci?.details.map(({ kind, name, reason }) => `${kind} ${name}: ${reason}`)];
new CircuitBreaker('a', { circuitBreakerThreshold: 1 }).canRequest();
new UpstreamCache({ enabled: true }).get('x')?.stale;
isReadableStream(response.body) && response.body.locked;
void [etag, status, reason, bytes, modified];
