// Where an application may mount `nodeHandler()`: at its root, at a path of its own, and at the base path of a protocol. Links lead back there every time.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import middie from '@fastify/middie';
import express4 from 'express';
import express5 from 'express5';
import fastify from 'fastify';
import { login, noise, open, sha256 } from '../support/facade.mjs';
import { publishDocument, tarball } from '../support/wire.mjs';

async function serve(t, handler) {
  const server = createServer(handler);
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => (server.closeAllConnections(), new Promise((done) => server.close(done))));
  return `http://127.0.0.1:${server.address().port}`;
}

/** Servers with the handler at some paths. */
const frameworks = {
  'Express 4': (t, handler, ...paths) => serve(t, withExpress(express4, handler, paths)),
  'Express 5': (t, handler, ...paths) => serve(t, withExpress(express5, handler, paths)),
  async middie(t, handler, ...paths) {
    const app = fastify();
    t.after(() => app.close());
    await app.register(middie);
    for (const path of paths) app.use(path, handler);
    return app.listen({ port: 0, host: '127.0.0.1' });
  },
};

function withExpress(express, handler, paths) {
  const app = express();
  for (const path of paths) app.use(path, handler);
  return app;
}

/** Publishes and installs as npm does: by the links that the registry gives. */
async function roundTrip(base, headers, name) {
  const bytes = await tarball(name, '1.0.0');
  const path = `${base}/${name.replace('/', '%2f')}`;
  const published = await fetch(path, { method: 'PUT', headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify(publishDocument(name, '1.0.0', bytes)) });
  assert.equal(published.status, 201, `${path}: ${await published.text()}`);
  const packument = await (await fetch(path)).json();
  assert.equal(packument.name, name);
  const link = packument.versions['1.0.0'].dist.tarball;
  assert.ok(link.startsWith(`${base}/${name}/-/`), link);
  assert.ok(bytes.equals(Buffer.from(await (await fetch(link)).arrayBuffer())), link);
}

/** Pushes and pulls as docker does: where `Location` leads. */
async function pushAndPull(base, headers, repository) {
  const bytes = noise(2000);
  const start = await fetch(`${base}/${repository}/blobs/uploads/`, { method: 'POST', headers });
  assert.equal(start.status, 202, await start.text());
  const location = new URL(start.headers.get('location'), base);
  assert.ok(location.href.startsWith(`${base}/`), location.href);
  location.searchParams.set('digest', sha256(bytes));
  const done = await fetch(location, { method: 'PUT', headers: { ...headers, 'content-type': 'application/octet-stream' }, body: bytes });
  assert.equal(done.status, 201, await done.text());
  const got = await fetch(new URL(done.headers.get('location'), base), { headers });
  assert.ok(bytes.equals(Buffer.from(await got.arrayBuffer())));
}

for (const [name, start] of Object.entries(frameworks)) {
  describe(`nodeHandler mounted in ${name}`, () => {
    it('at the root', async (t) => {
      const registry = await open(t);
      const { npm, oci } = await login(registry);
      const url = await start(t, registry.nodeHandler(), '/');
      await roundTrip(`${url}/npm`, npm, '@acme/widget');
      await roundTrip(`${url}/npm`, npm, 'npm');
      await pushAndPull(`${url}/v2`, oci, 'team/app');
    });

    it('at a path of the application', async (t) => {
      const registry = await open(t);
      const { npm, oci } = await login(registry);
      const url = await start(t, registry.nodeHandler(), '/registry');
      await roundTrip(`${url}/registry/npm`, npm, '@acme/widget');
      await pushAndPull(`${url}/registry/oci`, oci, 'team/app');
      // It looks like the path of a protocol, and is not.
      const versioned = await start(t, registry.nodeHandler(), '/api/v2');
      await roundTrip(`${versioned}/api/v2/npm`, npm, 'gadget');
    });

    it('at the base paths of protocols, where packages may be called like them', async (t) => {
      const registry = await open(t);
      const { npm, oci } = await login(registry);
      const url = await start(t, registry.nodeHandler(), '/npm', '/oci', '/v2');
      for (const one of ['widget', '@acme/widget', 'npm', 'oci', 'v2']) await roundTrip(`${url}/npm`, npm, one);
      assert.deepEqual(await (await fetch(`${url}/npm/-/whoami`, { headers: npm })).json(), { username: 'alice' });
      await pushAndPull(`${url}/oci`, oci, 'team/app');
      await pushAndPull(`${url}/v2`, oci, 'team/other');
      assert.equal((await fetch(`${url}/v2/`)).status, 401);
      assert.equal((await fetch(`${url}/elsewhere`)).status, 404);
    });

    it('at a path of the application that ends with the base path of a protocol', async (t) => {
      const registry = await open(t, { npm: { enabled: true, basePath: '/npm/' } });
      const { npm } = await login(registry);
      const url = await start(t, registry.nodeHandler(), '/api/npm');
      for (const one of ['@acme/widget', 'npm']) await roundTrip(`${url}/api/npm`, npm, one);
    });

    it('with a protocol at the root of the registry', async (t) => {
      const registry = await open(t, { npm: { enabled: true, basePath: '/' } });
      const { npm } = await login(registry);
      await roundTrip(await start(t, registry.nodeHandler(), '/'), npm, 'widget');
      await roundTrip(`${await start(t, registry.nodeHandler(), '/packages')}/packages`, npm, 'gadget');
    });
  });
}

describe('nodeHandler in Connect', () => {
  it('finds what was stripped off the URL', async (t) => {
    const registry = await open(t);
    const { npm } = await login(registry);
    const handler = registry.nodeHandler();
    // What Connect's router does; a URL of nothing begins with a slash there.
    const url = await serve(t, (req, res) => {
      req.originalUrl = req.url;
      req.url = req.url.slice('/npm'.length).replace(/^(?!\/)/, '/');
      handler(req, res, () => res.writeHead(418).end());
    });
    await roundTrip(`${url}/npm`, npm, 'npm');
    assert.equal((await fetch(`${url}/npm`)).status, (await registry.handleRequest({ method: 'GET', path: '/npm/' })).status);
  });
});
