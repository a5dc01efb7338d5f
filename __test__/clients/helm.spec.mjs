// helm 3 and 4: charts as OCI artifacts.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { digestOf } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { write } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

for (const name of ['helm-3', 'helm-4']) {
  const { argv } = await client(name);

  const helm = (site, args, { as = 'owner', cwd = site.box.dir, ...more } = {}) => {
    const home = join(site.box.home, as);
    // helm reads docker's login file where its own is told to be.
    const env = { ...site.as(as), HELM_CACHE_HOME: join(home, 'helm'), HELM_DATA_HOME: join(home, 'helm'), HELM_REGISTRY_CONFIG: site.authFile(as) };
    return run([...argv, ...args], { cwd, env, ...more });
  };

  matrix(name, { storages: few, protocol: 'oci', setUp: peopleAndImages }, (step) => {
    const remote = (site, path) => `oci://${site.registry.host}/${path}`;
    const packed = async (site, version) => {
      const chart = await site.box.folder('chart');
      await write(chart, {
        'Chart.yaml': `apiVersion: v2\nname: web\nversion: ${version}\ndescription: A chart\n`,
        'values.yaml': 'replicas: 1\n',
        'templates/map.yaml': 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  replicas: "{{ .Values.replicas }}"\n',
      });
      (await helm(site, ['package', chart, '--destination', site.box.dir])).ok();
      return join(site.box.dir, `web-${version}.tgz`);
    };
    const push = (site, file, to, options) => helm(site, ['push', file, remote(site, to), '--plain-http'], options);

    step('logs in, and not with a wrong password', async (site) => {
      const login = ['registry', 'login', site.registry.host, '--plain-http', '--username', 'alice', '--password-stdin'];
      (await helm(site, login, { as: 'fresh', input: 'guessed' })).refused(/401|unauthorized/i);
      (await helm(site, login, { as: 'fresh', input: password })).ok().shows(/Login Succeeded/);
      (await push(site, await packed(site, '0.1.0'), 'charts', { as: 'fresh' })).ok().shows(/Digest: sha256:[0-9a-f]{64}/);
      (await helm(site, ['registry', 'logout', site.registry.host], { as: 'fresh' })).ok();
    });

    step('pushes charts and pulls them by version, by digest and as the newest', async (site) => {
      const pushed = new Map();
      for (const version of ['1.0.0', '1.1.0', '1.2.0+build.5']) {
        const file = await packed(site, version);
        const { output } = (await push(site, file, 'charts')).ok();
        pushed.set(version, { bytes: await readFile(file), digest: output.match(/sha256:[0-9a-f]{64}/)[0] });
      }
      const pulled = async (version, ...args) => {
        const folder = await site.box.folder(`pulled-${Math.random().toString(36).slice(2)}`);
        (await helm(site, ['pull', ...args, '--plain-http', '--destination', folder], { as: 'nobody' })).ok();
        assert.equal(digestOf(await readFile(join(folder, `web-${version}.tgz`))), digestOf(pushed.get(version).bytes));
      };
      await pulled('1.0.0', remote(site, 'charts/web'), '--version', '1.0.0');
      await pulled('1.1.0', remote(site, 'charts/web'), '--version', '~1.1');
      // A tag has no plus sign: helm writes an underscore.
      await pulled('1.2.0+build.5', remote(site, 'charts/web'), '--version', '1.2.0+build.5');
      await pulled('1.2.0+build.5', remote(site, 'charts/web'));
      (await helm(site, ['show', 'chart', remote(site, 'charts/web'), '--version', '1.0.0', '--plain-http'])).ok().shows(/version: 1\.0\.0/);
      const template = ['template', 'release', remote(site, 'charts/web'), '--version', '1.0.0', '--set', 'replicas=3', '--plain-http'];
      (await helm(site, template)).ok().shows(/replicas: "3"/);
    });

    step('is told that a chart is missing', async (site) => {
      const pull = (path, version) => helm(site, ['pull', remote(site, path), '--version', version, '--plain-http']);
      (await pull('charts/web', '9.9.9')).refused(/9\.9\.9: not found/);
      (await pull('charts/none', '1.0.0')).refused(/not found/);
    });

    step('is told why it may not', async (site) => {
      const file = await packed(site, '2.0.0');
      (await push(site, file, 'private')).ok();
      const pull = (as) => helm(site, ['pull', remote(site, 'private/web'), '--version', '2.0.0', '--plain-http'], { as });
      (await pull('nobody')).refused(/401|unauthorized|denied/i);
      (await pull('liar')).refused(/401|unauthorized/i);
      (await push(site, file, 'team', { as: 'nobody' })).refused(/401|unauthorized|denied/i);
      (await push(site, file, 'team', { as: 'reader' })).refused(/401|403|unauthorized|denied/i);
      (await pull('owner')).ok();
    });
  });
}
