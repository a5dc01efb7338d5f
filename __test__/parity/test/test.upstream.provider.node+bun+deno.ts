import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, tap } from '@git.zone/tstest/tapbundle';
import { SmartRegistry, StaticUpstreamProvider, streamToBuffer, streamToJson, type IUpstreamProvider, type IUpstreamResolutionContext } from '../ts/index.js';
import { createTestRegistry, publishBody, tarballOf } from './helpers/registry.js';

let server: Server;
let upstreams: { id: string; url: string; priority: number; enabled: boolean }[];

tap.test('Upstream: should start a registry elsewhere', async () => {
  server = createServer((req, res) => {
    if (req.url?.endsWith('.tgz')) return res.end(tarballOf('far-away', '2.0.0'));
    if (req.url !== '/far-away') return res.writeHead(404).end('{}');
    const document = publishBody('far-away', '2.0.0');
    document.versions['2.0.0'].dist.tarball = `http://${req.headers.host}/far-away/-/far-away-2.0.0.tgz`;
    res.setHeader('Content-Type', 'application/json');
    return res.end(JSON.stringify({ ...document, _attachments: undefined, time: { '2.0.0': '2024-01-01T00:00:00.000Z' } }));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  upstreams = [{ id: 'elsewhere', url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, priority: 1, enabled: true }];
});

async function pull(registry: SmartRegistry) {
  const response = await registry.handleRequest({ method: 'GET', path: '/npm/far-away', headers: {}, query: {} });
  expect(response.status).toEqual(200);
  expect((await streamToJson(response.body))['dist-tags'].latest).toEqual('2.0.0');
  const tarball = await registry.handleRequest({ method: 'GET', path: '/npm/far-away/-/far-away-2.0.0.tgz', headers: {}, query: {} });
  expect(tarball.status).toEqual(200);
  expect((await streamToBuffer(tarball.body)).equals(tarballOf('far-away', '2.0.0'))).toBeTrue();
}

tap.test('Upstream: should serve what a static provider names', async () => {
  const registry = await createTestRegistry({ upstreamProvider: new StaticUpstreamProvider({ npm: { enabled: true, upstreams } }) });
  await pull(registry);
  expect((await registry.handleRequest({ method: 'GET', path: '/npm/nowhere', headers: {}, query: {} })).status).toEqual(404);
  await registry.destroy();
});

tap.test('Upstream: should ask a provider of its own for each request', async () => {
  class Tenants implements IUpstreamProvider {
    public asked: IUpstreamResolutionContext[] = [];
    public async resolveUpstreamConfig(context: IUpstreamResolutionContext) {
      this.asked.push(context);
      return context.protocol === 'npm' ? { enabled: true, upstreams } : null;
    }
  }
  const provider = new Tenants();
  const registry = await createTestRegistry({ upstreamProvider: provider });
  await pull(registry);
  expect(provider.asked[0].protocol).toEqual('npm');
  expect(provider.asked[0].resource).toEqual('far-away');
  await registry.destroy();
});

tap.test('cleanup', async () => {
  await new Promise((done) => server.close(done));
});

export default tap.start();
