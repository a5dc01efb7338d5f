// oras, and with it helm, notation and flux, which share its library: one PUT for each blob, artifacts, and the referrers API.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { assertSameImage, digestOf, noise } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { write } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('oras');

const oras = (site, args, { as = 'owner', cwd = site.box.dir, ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

matrix('oras', { protocol: 'oci', setUp: peopleAndImages }, (step) => {
  const remote = (site, name) => `${site.registry.host}/${name}`;
  const files = { 'chart.yaml': 'name: chart\n', 'data.bin': noise(5_000_000, 'artifact'), 'empty.txt': '' };
  const pushed = async (site, to, options) => {
    const cwd = await site.box.folder('artifact');
    await write(cwd, { ...files, 'sbom.json': '{"sbom":true}', 'signature.txt': 'signed' });
    const args = ['push', '--plain-http', '--artifact-type', 'application/vnd.example.chart', remote(site, to), 'chart.yaml:text/yaml', 'data.bin', 'empty.txt'];
    return oras(site, args, { cwd, ...options });
  };

  step('logs in, and not with a wrong password', async (site) => {
    const login = ['login', '--plain-http', '--username', 'alice', '--password-stdin', site.registry.host];
    (await oras(site, login, { as: 'fresh', input: 'guessed' })).refused(/401|unauthorized/i);
    (await oras(site, login, { as: 'fresh', input: password })).ok().shows(/Login Succeeded/);
  });

  step('pushes and pulls an artifact', async (site) => {
    (await pushed(site, 'team/chart:v1', { as: 'fresh' })).ok();
    const folder = await site.box.folder('pulled');
    (await oras(site, ['pull', '--plain-http', '--output', folder, remote(site, 'team/chart:v1')], { as: 'nobody' })).ok();
    for (const [name, content] of Object.entries(files)) assert.ok((await readFile(join(folder, name))).equals(Buffer.from(content)), name);
  });

  step('attaches what belongs to an artifact, and finds it', async (site) => {
    const cwd = join(site.box.dir, 'artifact');
    const attach = (type, file) => oras(site, ['attach', '--plain-http', '--artifact-type', type, remote(site, 'team/chart:v1'), file], { cwd });
    (await attach('application/vnd.example.sbom', 'sbom.json:application/json')).ok();
    (await attach('application/vnd.example.signature', 'signature.txt')).ok();
    const found = async (...args) => {
      const { referrers } = (await oras(site, ['discover', '--plain-http', '--format', 'json', ...args, remote(site, 'team/chart:v1')])).json();
      return referrers.map(({ artifactType }) => artifactType).sort();
    };
    assert.deepEqual(await found(), ['application/vnd.example.sbom', 'application/vnd.example.signature']);
    assert.deepEqual(await found('--artifact-type', 'application/vnd.example.sbom'), ['application/vnd.example.sbom']);
    // The referrers API was used: no tag was written in its place.
    assert.equal((await oras(site, ['repo', 'tags', '--plain-http', remote(site, 'team/chart')])).ok().stdout, 'v1\n');
  });

  step('copies an image in and out, and between repositories', async (site) => {
    (await oras(site, ['cp', '--from-oci-layout', '--to-plain-http', `${site.layout('multi')}:multi`, remote(site, 'team/multi:v1')])).ok();
    const plain = ['--from-plain-http', '--to-plain-http'];
    (await oras(site, ['cp', ...plain, remote(site, 'team/multi:v1'), remote(site, 'other/copy:v2')])).ok();
    const folder = await site.box.folder('copied');
    (await oras(site, ['cp', '--from-plain-http', '--to-oci-layout', remote(site, 'other/copy:v2'), `${folder}:v2`])).ok();
    await assertSameImage(folder, site.multi);
  });

  step('copies an artifact with all that belongs to it', async (site) => {
    (await oras(site, ['cp', '-r', '--from-plain-http', '--to-plain-http', remote(site, 'team/chart:v1'), remote(site, 'other/chart:v1')])).ok();
    const { referrers } = (await oras(site, ['discover', '--plain-http', '--format', 'json', remote(site, 'other/chart:v1')])).json();
    assert.equal(referrers.length, 2);
  });

  step('shows manifests, digests, tags and blobs', async (site) => {
    const manifest = (await oras(site, ['manifest', 'fetch', '--plain-http', remote(site, 'team/multi:v1')])).ok().stdout;
    assert.equal(digestOf(Buffer.from(manifest)), site.multi.descriptor.digest);
    assert.equal((await oras(site, ['resolve', '--plain-http', remote(site, 'team/multi:v1')])).ok().stdout.trim(), site.multi.descriptor.digest);
    (await oras(site, ['tag', '--plain-http', remote(site, 'team/multi:v1'), 'v1.0', 'latest'])).ok();
    assert.equal((await oras(site, ['repo', 'tags', '--plain-http', remote(site, 'team/multi')])).ok().stdout, 'latest\nv1\nv1.0\n');
  });

  step('pushes, fetches and deletes a single blob', async (site) => {
    const cwd = await site.box.folder('blobs');
    const bytes = noise(3_000_000, 'blob');
    await write(cwd, { 'in.bin': bytes });
    const name = remote(site, `team/blobs@${digestOf(bytes)}`);
    (await oras(site, ['blob', 'push', '--plain-http', remote(site, 'team/blobs'), 'in.bin'], { cwd })).ok();
    (await oras(site, ['blob', 'fetch', '--plain-http', '--output', 'out.bin', name], { cwd })).ok();
    assert.ok((await readFile(join(cwd, 'out.bin'))).equals(bytes));
    (await oras(site, ['blob', 'delete', '--plain-http', '--force', name])).ok();
    (await oras(site, ['blob', 'fetch', '--plain-http', '--output', 'gone.bin', name], { cwd })).refused(/not found/i);
  });

  step('shows what the registry warns of', async (site) => {
    const cwd = await site.box.folder('withdrawn');
    const type = 'application/vnd.oci.artifact.manifest.v1+json';
    await write(cwd, { 'manifest.json': JSON.stringify({ mediaType: type, artifactType: 'application/vnd.example.old', blobs: [] }) });
    (await oras(site, ['manifest', 'push', '--plain-http', '--media-type', type, remote(site, 'team/withdrawn:v1'), 'manifest.json'], { cwd })).ok().shows(/artifact manifest is withdrawn/);
  });

  step('is told that an artifact is missing', async (site) => {
    (await oras(site, ['pull', '--plain-http', remote(site, 'team/chart:v9')])).refused(/not found/i);
    (await oras(site, ['repo', 'tags', '--plain-http', remote(site, 'team/none')])).refused(/NAME_UNKNOWN|name unknown|not found/i);
  });

  step('is told why it may not', async (site) => {
    (await pushed(site, 'private/chart:v1')).ok();
    const pull = (as) => oras(site, ['pull', '--plain-http', '--output', `${site.box.dir}/secret-${as}`, remote(site, 'private/chart:v1')], { as });
    (await pull('nobody')).refused(/401|unauthorized|denied/i);
    (await pull('liar')).refused(/401|unauthorized/i);
    (await pull('reader')).refused(/401|403|unauthorized|denied/i);
    (await pushed(site, 'team/chart:v3', { as: 'nobody' })).refused(/401|unauthorized|denied/i);
    (await pushed(site, 'team/chart:v3', { as: 'reader' })).refused(/401|403|unauthorized|denied/i);
    (await pull('owner')).ok();
  });

  step('deletes a manifest', async (site) => {
    const name = remote(site, 'other/copy:v2');
    (await oras(site, ['manifest', 'delete', '--plain-http', '--force', name])).ok();
    (await oras(site, ['manifest', 'fetch', '--plain-http', name])).refused(/not found/i);
  });
});
