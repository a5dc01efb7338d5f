// crane, and with it ko, cosign and kaniko, which share its library: streamed PATCHes, mounts, tags by manifest PUT.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { assertSameImage, digestOf, writeIndexLayout } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { write } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('crane');

const crane = (site, args, { as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd: site.box.dir, env: site.as(as), ...more });

matrix('crane', { protocol: 'oci', setUp: peopleAndImages }, (step) => {
  const remote = (site, name) => `${site.registry.host}/${name}`;
  const push = (site, name, to, options = {}) => crane(site, ['push', site.layout(name), remote(site, to)], options);
  const pull = async (site, from, options = {}) => {
    const folder = `${await site.box.folder('pulled')}/${from.replace(/\W/g, '-')}-${Math.random().toString(36).slice(2)}`;
    return Object.assign(await crane(site, ['pull', '--format=oci', remote(site, from), folder], options), { folder });
  };

  step('logs in, and not with a wrong password', async (site) => {
    (await crane(site, ['auth', 'login', site.registry.host, '-u', 'alice', '--password-stdin'], { as: 'fresh', input: password })).ok();
    (await push(site, 'small', 'team/first:v1', { as: 'fresh' })).ok();
    (await push(site, 'small', 'team/first:v1', { as: 'liar' })).refused(/UNAUTHORIZED|401/);
  });

  step('pushes and pulls an image', async (site) => {
    (await push(site, 'small', 'team/app:v1')).ok().shows(new RegExp(site.small.descriptor.digest));
    const pulled = await pull(site, 'team/app:v1', { as: 'nobody' });
    pulled.ok();
    await assertSameImage(pulled.folder, site.small);
  });

  step('pushes and pulls a layer of many megabytes', async (site) => {
    (await push(site, 'big', 'team/big:v1')).ok();
    const pulled = await pull(site, 'team/big:v1');
    pulled.ok();
    await assertSameImage(pulled.folder, site.big);
  });

  step('pushes and pulls an image of several platforms', async (site) => {
    const folder = await site.box.folder('layouts/platforms');
    await writeIndexLayout(folder, site.multi);
    (await crane(site, ['push', '--index', folder, remote(site, 'team/multi:v1')])).ok();
    const pulled = await pull(site, 'team/multi:v1');
    pulled.ok();
    await assertSameImage(pulled.folder, site.multi);
    const { digest } = site.multi.descriptor;
    assert.equal((await crane(site, ['digest', remote(site, 'team/multi:v1')])).ok().stdout.trim(), digest);
    const arm = (await crane(site, ['digest', '--platform', 'linux/arm64', remote(site, 'team/multi:v1')])).ok().stdout.trim();
    assert.ok(arm !== digest && site.multi.blobs.has(arm), arm);
  });

  step('shows manifests, configurations and blobs', async (site) => {
    const { stdout } = (await crane(site, ['manifest', remote(site, 'team/app:v1')])).ok();
    assert.equal(digestOf(Buffer.from(stdout)), site.small.descriptor.digest);
    (await crane(site, ['config', remote(site, 'team/app:v1')])).ok().shows(/"architecture":"amd64"/);
    const { config } = JSON.parse(stdout);
    assert.equal(digestOf(Buffer.from((await crane(site, ['blob', remote(site, `team/app@${config.digest}`)])).ok().stdout)), config.digest);
    (await crane(site, ['validate', '--remote', remote(site, 'team/big:v1')])).ok().shows(/PASS/);
  });

  step('copies between repositories', async (site) => {
    (await crane(site, ['copy', remote(site, 'team/multi:v1'), remote(site, 'other/copy:v2')])).ok();
    const pulled = await pull(site, 'other/copy:v2');
    pulled.ok();
    await assertSameImage(pulled.folder, site.multi);
  });

  step('tags and lists tags', async (site) => {
    (await crane(site, ['tag', remote(site, 'team/app:v1'), 'v2'])).ok();
    (await crane(site, ['tag', remote(site, 'team/app:v1'), 'latest'])).ok();
    assert.equal((await crane(site, ['ls', remote(site, 'team/app')])).ok().stdout, 'latest\nv1\nv2\n');
  });

  step('appends a layer to an image that stays where it is', async (site) => {
    await write(site.box.dir, { 'layer/opt/appended': 'appended\n' });
    const archive = join(site.box.dir, 'layer.tar');
    (await run(['/usr/bin/tar', '-C', join(site.box.dir, 'layer'), '-cf', archive, '.'], { cwd: site.box.dir, env: site.box.env })).ok();
    (await crane(site, ['append', '--base', remote(site, 'team/app:v1'), '--new_layer', archive, '--new_tag', remote(site, 'other/appended:v1')])).ok();
    const manifest = async (name) => JSON.parse((await crane(site, ['manifest', remote(site, name)])).ok().stdout);
    const [base, appended] = [await manifest('team/app:v1'), await manifest('other/appended:v1')];
    assert.deepEqual(appended.layers.slice(0, -1), base.layers);
    (await crane(site, ['validate', '--remote', remote(site, 'other/appended:v1')])).ok().shows(/PASS/);
    (await crane(site, ['mutate', '--label', 'made=here', '--tag', remote(site, 'other/appended:v2'), remote(site, 'other/appended:v1')])).ok();
    (await crane(site, ['config', remote(site, 'other/appended:v2')])).ok().shows(/"made":"here"/);
  });

  step('lists the repositories that its user may pull from', async (site) => {
    (await push(site, 'small', 'private/app:v1')).ok();
    const catalog = async (as) => (await crane(site, ['catalog', site.registry.host], { as })).ok().stdout.trim().split('\n');
    const all = await catalog('owner');
    for (const name of ['other/appended', 'other/copy', 'private/app', 'team/app', 'team/big', 'team/multi']) assert.ok(all.includes(name), all.join(' '));
    assert.deepEqual(all, [...all].sort());
    (await crane(site, ['catalog', site.registry.host], { as: 'nobody' })).refused(/UNAUTHORIZED/);
    (await crane(site, ['catalog', site.registry.host], { as: 'reader' })).refused(/UNAUTHORIZED|DENIED/);
  });

  step('is told that an image or a repository is missing', async (site) => {
    (await pull(site, 'team/app:v9')).refused(/MANIFEST_UNKNOWN/);
    (await crane(site, ['ls', remote(site, 'team/none')])).refused(/NAME_UNKNOWN/);
  });

  step('is told why it may not', async (site) => {
    (await push(site, 'small', 'private/app:v1')).ok();
    (await pull(site, 'private/app:v1', { as: 'nobody' })).refused(/UNAUTHORIZED|DENIED/);
    (await pull(site, 'private/app:v1', { as: 'liar' })).refused(/UNAUTHORIZED|401/);
    (await pull(site, 'private/app:v1', { as: 'reader' })).refused(/UNAUTHORIZED|DENIED/);
    (await push(site, 'small', 'team/app:v3', { as: 'nobody' })).refused(/UNAUTHORIZED|DENIED/);
    (await push(site, 'small', 'team/app:v3', { as: 'reader' })).refused(/UNAUTHORIZED|DENIED/);
    (await pull(site, 'team/app:v3')).refused(/MANIFEST_UNKNOWN/);
    (await pull(site, 'private/app:v1')).ok();
  });

  step('deletes a tag, then the image', async (site) => {
    (await crane(site, ['delete', remote(site, 'team/app:v2')])).ok();
    assert.equal((await crane(site, ['ls', remote(site, 'team/app')])).ok().stdout, 'latest\nv1\n');
    (await crane(site, ['delete', remote(site, `team/app@${site.small.descriptor.digest}`)], { as: 'reader' })).refused(/UNAUTHORIZED|DENIED/);
    (await crane(site, ['delete', remote(site, `team/app@${site.small.descriptor.digest}`)])).ok();
    (await pull(site, 'team/app:v1')).refused(/MANIFEST_UNKNOWN/);
  });
});
