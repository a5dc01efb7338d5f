// The README of the replaced package: each of its programs runs as it stands there, over each storage. Its free names are globals that are set before;
// placeholders in it (`<token>`) are replaced by what they stand for. The types' tests compile the same files.
// SMARTREGISTRY_TEST_PACKAGE is the folder of a package that was installed somewhere; without it, it is this checkout that is tested.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { root } from '../../scripts/lib/paths.mjs';
import { noise, sha256 } from '../support/facade.mjs';
import { startS3 } from '../support/s3.mjs';
import { descriptorOf, snippet } from '../support/snippets.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

const tested = process.env.SMARTREGISTRY_TEST_PACKAGE ?? root;
const { DefaultAuthProvider, RegistryError, SmartRegistry, streamToBuffer, streamToJson } = await import(pathToFileURL(join(tested, 'index.mjs')).href);

const storages = {
  memory: async () => ({ storage: { type: 'memory' }, end() {} }),
  async local() {
    const path = await mkdtemp(join(tmpdir(), 'smartregistry-readme-'));
    return { storage: { type: 'local', path }, end: () => rm(path, { recursive: true, force: true }) };
  },
  moto: () => bucketOf('moto'),
  smarts3: () => bucketOf('smarts3'),
};

async function bucketOf(kind) {
  const s3 = await startS3(kind);
  return { storage: s3.storage(), s3, end: () => s3.stop() };
}

/** A project that has this package in place of the replaced one, as the alias installs it, and the packages that the README names beside it. */
let project;
let runs = 0;

/** Runs a snippet and gives what it exports. */
async function execute(name, globals = {}, values = {}) {
  Object.assign(globalThis, globals);
  const file = join(project, `${name}-${(runs += 1)}.mjs`);
  await writeFile(file, await snippet(name, values));
  return import(pathToFileURL(file).href);
}

before(async () => {
  project = await mkdtemp(join(tmpdir(), 'smartregistry-snippets-'));
  for (const [name, target] of Object.entries({ '@push.rocks/smartregistry': tested, express: join(root, 'node_modules/express') })) {
    const link = join(project, 'node_modules', name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(target, link);
  }
});

after(() => rm(project, { recursive: true, force: true }));

for (const [name, start] of Object.entries(storages)) {
  describe(`the README over ${name}`, { timeout: 120_000 }, () => {
    let place;
    let config;
    let registry;
    let tokens;
    /** Of the package that is published first. */
    let bytes;

    before(async () => {
      place = await start();
      const made = place.s3 ? await execute('quick-start', {}, descriptorOf(place.storage)) : await quickStart(place.storage);
      ({ config, registry } = made);
      // In the README nobody answers for Express: there is no such package yet.
      assert.equal(made.response.status, 404);
      assert.ok((await streamToJson(made.response.body)).error);
      tokens = await execute('authentication', { registry });
    });

    after(async () => {
      await registry?.destroy();
      await place?.end();
    });

    /** The quick start where there is no S3: its configuration with another storage. */
    async function quickStart(storage) {
      const values = descriptorOf({ accessKey: '', accessSecret: '', endpoint: '127.0.0.1', port: 9, useSsl: false, region: '', bucketName: '' });
      return execute('quick-start', { storage }, { ...values, 'new SmartRegistry(config)': 'new SmartRegistry(Object.assign(config, { storage: globalThis.storage }))' });
    }

    it('makes tokens for every protocol, and knows what they may do', async () => {
      assert.equal(tokens.userId, 'user');
      assert.equal(tokens.canWrite, true);
      assert.equal(tokens.token.userId, 'user');
      for (const protocol of ['npm', 'oci', 'pypi', 'cargo', 'composer', 'rubygems']) {
        const found = await tokens.authManager.validateToken(tokens[`${protocol}Token`], protocol);
        assert.equal(found?.userId, 'user', protocol);
      }
    });

    it('pushes and pulls containers', async () => {
      const blobData = noise(700_000);
      const { response, uploadInit } = await execute('oci', { registry, blobData }, { '<token>': tokens.ociToken, 'sha256:abc123...': sha256(blobData) });
      // Its token is for another repository than the one that it pulls from.
      assert.ok([401, 403, 404].includes(response.status), `${response.status}`);
      assert.equal(uploadInit.status, 202);
      const headers = { Authorization: `Bearer ${tokens.ociToken}` };
      const blob = await registry.handleRequest({ method: 'GET', path: `/oci/myapp/blobs/${sha256(blobData)}`, headers, query: {} });
      assert.ok(blobData.equals(await streamToBuffer(blob.body)));
      const keys = await registry.getStorage().listObjects('oci/');
      assert.ok(keys.includes(`oci/blobs/sha256/${sha256(blobData).slice(7)}`));

      const described = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: sha256(blobData), size: blobData.length };
      const manifest = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config: described, layers: [described] };
      const put = await registry.handleRequest({ method: 'PUT', path: '/oci/myapp/manifests/latest', headers: { ...headers, 'Content-Type': manifest.mediaType }, query: {}, body: Buffer.from(JSON.stringify(manifest)) });
      assert.equal(put.status, 201);
      const got = await registry.handleRequest({ method: 'GET', path: '/oci/myapp/manifests/latest', headers, query: {} });
      assert.deepEqual(await streamToJson(got.body), manifest);
      assert.ok((await registry.getStorage().listObjects('oci/')).includes('oci/tags/myapp/tags.json'));
    });

    it('publishes, shows and finds packages', async () => {
      bytes = await tarball('my-package', '1.0.0');
      const values = {
        '<npm-token>': tokens.npmToken,
        '/* version metadata */': "name: 'my-package', version: '1.0.0'",
        '<base64-tarball>': bytes.toString('base64'),
        'length: 12345': `length: ${bytes.length}`,
      };
      const { metadata, publishResponse, search } = await execute('npm', { registry }, values);
      assert.equal(metadata.status, 404);
      assert.equal(publishResponse.status, 201, String(await streamToBuffer(publishResponse.body)));
      assert.deepEqual([search.status, (await streamToJson(search.body)).total], [200, 0]);
      const shown = await registry.handleRequest({ method: 'GET', path: '/npm/my-package', headers: { host: 'registry.example.com' }, query: {} });
      const { pathname } = new URL((await streamToJson(shown.body)).versions['1.0.0'].dist.tarball);
      const file = await registry.handleRequest({ method: 'GET', path: pathname, headers: {}, query: {} });
      assert.ok(bytes.equals(await streamToBuffer(file.body)));
      const keys = await registry.getStorage().listObjects('npm/');
      for (const key of ['npm/packages/my-package/index.json', 'npm/packages/my-package/my-package-1.0.0.tgz']) assert.ok(keys.includes(key), `${key} is not among ${keys.join(', ')}`);
    });

    it('hands the actor of a request to hooks, which count and refuse', async (t) => {
      const written = [];
      let quota = 10_000_000;
      const more = {
        config,
        getStorageUsage: async () => 1000,
        getQuota: async (orgId) => (orgId === 'org-456' ? quota : 0),
        isProtectedPackage: async (key) => key.includes('my-package'),
        auditLog: { write: async (entry) => void written.push(entry) },
      };
      const { registry: hooked } = await execute('hooks', more);
      await hooked.init();
      t.after(() => hooked.destroy());
      const auth = hooked.getAuthManager();
      const token = await auth.createNpmToken(await auth.authenticate({ username: 'user', password: 'pass' }), false);
      const publish = async (version) =>
        execute('actor', { registry: hooked, packageData: publishDocument('my-package', version, await tarball('my-package', version)), req: { ip: '192.0.2.1', headers: { 'user-agent': 'test' } } }, { '<token>': token });
      assert.equal((await publish('2.0.0')).response.status, 201);
      const entry = written.find(({ key }) => key === 'npm/packages/my-package/index.json');
      assert.deepEqual(
        [entry.action, entry.protocol, entry.actor.orgId, entry.actor.userId, entry.actor.ip, entry.actor.userAgent, entry.timestamp instanceof Date],
        ['storage.put', 'npm', 'org-456', 'user123', '192.0.2.1', 'test', true],
      );
      quota = 0;
      const { response } = await publish('3.0.0');
      assert.equal(response.status, 403);
      assert.match((await streamToJson(response.body)).error, /Storage quota exceeded/);
      const { _rev } = await streamToJson((await hooked.handleRequest({ method: 'GET', path: '/npm/my-package', headers: {}, query: {} })).body);
      quota = 10_000_000;
      const removal = await hooked.handleRequest({ method: 'DELETE', path: `/npm/my-package/-rev/${_rev}`, headers: { Authorization: `Bearer ${token}` }, query: {} });
      assert.equal(removal.status, 403);
      assert.match((await streamToJson(removal.body)).error, /Cannot delete protected package/);
    });

    it('asks an auth provider of the application', async (t) => {
      const { LdapAuthProvider, registry: own } = await execute('auth-provider', { config });
      LdapAuthProvider.prototype.ldapClient = { bind: async (name, password) => ({ success: name === 'alice' && password === 'right' }) };
      LdapAuthProvider.prototype.sessionStore = new Map();
      LdapAuthProvider.prototype.checkPermissions = async (userId, resource, action) => userId === 'alice' && resource === 'npm:package:ldap-package' && ['read', 'write'].includes(action);
      await own.init();
      t.after(() => own.destroy());
      const auth = own.getAuthManager();
      assert.equal(await auth.authenticate({ username: 'alice', password: 'wrong' }), null);
      const userId = await auth.authenticate({ username: 'alice', password: 'right' });
      const token = await auth.createToken(userId, 'npm', { scopes: ['npm:*:*:*'] });
      const publish = async (name, bearer) =>
        own.handleRequest({ method: 'PUT', path: `/npm/${name}`, headers: { Authorization: `Bearer ${bearer}` }, query: {}, body: publishDocument(name, '1.0.0', await tarball(name, '1.0.0')) });
      assert.equal((await publish('ldap-package', token)).status, 201);
      assert.ok([403, 404].includes((await publish('other-package', token)).status));
      await auth.revokeToken(token);
      assert.equal((await publish('ldap-package', token)).status, 401);
    });

    it('consumes streams by its helpers', async () => {
      // It reads the same answer twice, which no stream bears: the second reading gets an answer of its own. A version stays as it is,
      // where the document of the package, which another registry here has changed, may come to light in its new form between the two.
      const answer = () => registry.handleRequest({ method: 'GET', path: '/npm/my-package/1.0.0', headers: {}, query: {} });
      const [one, two] = await Promise.all([answer(), answer()]);
      let reads = 0;
      const response = { get body() { return (reads += 1) === 1 ? one.body : two.body; } };
      const { buffer, data, stream } = await execute('stream-helpers', { response });
      assert.deepEqual(JSON.parse(String(buffer)), data);
      assert.equal(data.name, 'my-package');
      assert.deepEqual(await streamToJson(stream), { hello: 'world' });
    });

    it('answers in a server of node:http', async (t) => {
      const server = createServer(async (req, res) => {
        const response = await registry.handleRequest({ method: req.method, path: req.url, headers: req.headers, query: {} });
        res.writeHead(response.status, response.headers);
        await execute('node-http', { response, res });
      });
      await new Promise((done) => server.listen(0, '127.0.0.1', done));
      t.after(() => stop(server));
      const fetched = await fetch(`http://127.0.0.1:${server.address().port}/npm/my-package`);
      assert.equal((await fetched.json()).name, 'my-package');
      const head = await fetch(`http://127.0.0.1:${server.address().port}/npm/my-package`, { method: 'HEAD' });
      assert.equal(head.status, 200);
    });

    it('answers in an Express application', async (t) => {
      const { registry: mounted } = await execute('express', { config }, { 'app.listen(5000)': "globalThis.server = app.listen(0, '127.0.0.1')" });
      const { server } = globalThis;
      t.after(async () => {
        await stop(server);
        await mounted.destroy();
      });
      if (!server.listening) await new Promise((done) => server.on('listening', done));
      const url = `http://127.0.0.1:${server.address().port}`;
      assert.deepEqual(await (await fetch(`${url}/elsewhere`)).json(), { error: 'NOT_FOUND', message: 'No registry handler for this path' });
      // A store in memory is the registry's own.
      if (name === 'memory') return;
      const packument = await (await fetch(`${url}/npm/my-package`)).json();
      const file = await fetch(packument.versions['1.0.0'].dist.tarball);
      assert.ok(bytes.equals(Buffer.from(await file.arrayBuffer())));
    });

    it('ends with destroy()', async () => {
      await registry.destroy();
      assert.equal(registry.isInitialized(), false);
    });
  });
}

async function stop(server) {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
}

describe('the rest of the README', { timeout: 120_000 }, () => {
  it('makes an upstream provider, and a registry once the storage is filled in', async (t) => {
    const filled = { '/* S3 config */': "type: 'memory'" };
    // Without the variable of the environment, too: the upstream is asked without credentials.
    await (await execute('upstreams', {}, filled)).registry.destroy();
    process.env.NPM_PRIVATE_TOKEN = 'a token of the company';
    t.after(() => delete process.env.NPM_PRIVATE_TOKEN);
    const { registry, upstreamProvider } = await execute('upstreams', {}, filled);
    const config = await upstreamProvider.resolveUpstreamConfig({ protocol: 'npm', resource: '@company/x', method: 'GET', resourceType: 'packument' });
    assert.deepEqual(config.upstreams.map(({ id }) => id), ['company-private', 'public']);
    await registry.init();
    assert.ok(registry.getRegistry('npm'));
    await registry.destroy();
    await assert.rejects(execute('upstreams'), (error) => error instanceof RegistryError && error.code === 'INVALID_CONFIG');
  });

  it('runs over an S3 server that it starts for tests', async () => {
    // The S3 server that is here, behind the three calls of the package that starts one there.
    const folder = join(project, 'node_modules/@push.rocks/smartstorage');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'package.json'), JSON.stringify({ name: '@push.rocks/smartstorage', type: 'module', exports: './index.js' }));
    await writeFile(
      join(folder, 'index.js'),
      'export const SmartStorage = { async createAndStart() { const s3 = await globalThis.startS3("smarts3"); return { getStorageDescriptor: async () => s3.descriptor, stop: () => s3.stop() }; } };',
    );
    const { registry, response } = await execute('smartstorage', { startS3 });
    assert.equal(response.status, 404);
    await registry.destroy();
  });

  it('extends the default provider', async () => {
    const provider = new DefaultAuthProvider({ jwtSecret: 'your-secret-key' });
    await provider.init();
    const registry = new SmartRegistry({ storage: { type: 'memory' }, auth: { jwtSecret: 'your-secret-key' }, authProvider: provider, npm: { enabled: true } });
    await registry.init();
    const token = await provider.createToken(await provider.authenticate({ username: 'user', password: 'pass' }), 'npm');
    const answer = await registry.handleRequest({ method: 'GET', path: '/npm/-/whoami', headers: { Authorization: `Bearer ${token}` }, query: {} });
    assert.deepEqual(await streamToJson(answer.body), { username: 'user' });
    await registry.destroy();
  });
});
