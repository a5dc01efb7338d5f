// The steps that npm's clients share. Each client says how it publishes and installs, and how it words a refusal; what must come of it is said here.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { assertInstalled, assertIntegrity, writePackage, writeProject } from './packages.mjs';

/**
 * @typedef {import('./process.mjs').Finished} Finished
 * @param {(title: string, work: (site: object) => Promise<void>) => void} step from matrix.mjs
 * @param {object} client
 * @param {(site: object, made: { folder: string, version: string }, args?: string[], options?: { as?: string }) => Promise<Finished>} client.publish
 * @param {(name: string) => RegExp} [client.published] what it prints when it has published
 * @param {(site: object, folder: string) => Promise<void>} [client.completePackage] what it needs beside the files of a package
 * @param {(project: string, ...more: unknown[]) => Promise<void>} [client.completeProject] what it needs beside a project's package.json
 */
export function npmSteps(step, { publish, published = () => /(?:)/, completePackage, completeProject }) {
  const packageOf = async (site, folder, manifest) => {
    const made = await writePackage(await site.box.folder(folder), manifest);
    await completePackage?.(site, made.folder);
    return made;
  };

  const publishing = async (site, manifest, args = []) => {
    const made = await packageOf(site, `${manifest.name}-${manifest.version}`, manifest);
    (await publish(site, made, args)).ok().shows(published(manifest.name));
    return made;
  };

  const projectOf = async (site, folder, dependencies, ...more) => {
    const project = await site.box.folder(folder);
    await writeProject(project, dependencies);
    await completeProject?.(project, ...more);
    return project;
  };

  return {
    publishing,
    projectOf,

    publishes() {
      step('publishes unscoped, scoped, again and under a tag', async (site) => {
        site.widget = await publishing(site, { name: 'widget', version: '1.0.0' });
        await assertIntegrity(site.registry.npm, 'widget', '1.0.0');
        site.gadget = await publishing(site, { name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } }, ['--access', 'public']);
        await assertIntegrity(site.registry.npm, '@acme/gadget', '0.1.0');
        site.newer = await publishing(site, { name: 'widget', version: '1.1.0' });
        site.beta = await publishing(site, { name: 'widget', version: '2.0.0-beta.1' }, ['--tag', 'beta']);
        const { 'dist-tags': tags } = await assertIntegrity(site.registry.npm, 'widget', '2.0.0-beta.1');
        assert.deepEqual(tags, { latest: '1.1.0', beta: '2.0.0-beta.1' });
      });
    },

    /** @param {(site: object) => Promise<object>} view widget's document as the client shows it */
    shows(view) {
      step('shows a package', async (site) => {
        const shown = await view(site);
        assert.equal(shown.version, '1.1.0');
        assert.deepEqual(shown.versions, ['1.0.0', '1.1.0', '2.0.0-beta.1']);
      });
    },

    /**
     * @param {object} commands each takes `(site, options)` with `cwd` and `as`
     * @param {Record<string, string>} [dependencies]
     */
    installs({ install, addBeta, installLocked }, dependencies = { '@acme/gadget': '^0.1.0' }) {
      step('installs into a fresh project', async (site) => {
        site.project = await projectOf(site, 'project', dependencies);
        const options = { cwd: site.project, as: 'nobody' };
        (await install(site, options)).ok();
        await assertInstalled(site.project, site.gadget);
        await assertInstalled(site.project, site.newer);
        (await addBeta(site, options)).ok();
        await assertInstalled(site.project, site.beta);
      });

      step('installs what the lock file says, with an empty cache', async (site) => {
        await rm(join(site.project, 'node_modules'), { recursive: true });
        (await installLocked(site, { cwd: site.project, as: 'nobody' })).ok();
        await assertInstalled(site.project, site.gadget);
        await assertInstalled(site.project, site.beta);
      });
    },

    /** @param {RegExp} wording of the refusal, which has to be the registry's */
    isToldThatAVersionExists(wording, args = []) {
      step('is told that a version exists', async (site) => {
        const changed = await packageOf(site, 'changed', { name: 'widget', version: '1.1.0', description: 'something else' });
        (await publish(site, changed, args)).refused(wording);
        await assertIntegrity(site.registry.npm, 'widget', '1.1.0');
      });
    },

    /** @param {Record<string, RegExp>} wordings by person */
    isToldWhyItMayNot(wordings) {
      step('is told why a publish without rights fails', async (site) => {
        const made = await packageOf(site, 'denied', { name: 'denied', version: '1.0.0' });
        for (const [as, wording] of Object.entries(wordings)) (await publish(site, made, [], { as })).refused(wording);
        assert.equal((await fetch(`${site.registry.npm}denied`)).status, 404);
      });
    },

    /** @param {(site: object, name: string, options: { cwd: string }) => Promise<Finished>} add */
    isToldWhatIsMissing(add, { noPackage, noVersion }) {
      step('is told that a package or a version is missing', async (site) => {
        const cwd = await projectOf(site, 'missing', {});
        (await add(site, 'no-such-package', { cwd })).refused(noPackage);
        (await add(site, 'widget@9.9.9', { cwd })).refused(noVersion);
      });
    },

    /** @param {(site: object, options: { cwd: string, as?: string }) => Promise<Finished>} install */
    readsPrivately(install, wordings) {
      step('reads a private package only with a token', async (site) => {
        const secret = await publishing(site, { name: '@private/secret', version: '1.0.0' });
        const cwd = await projectOf(site, 'private', { '@private/secret': '1.0.0' });
        for (const [as, wording] of Object.entries(wordings)) (await install(site, { cwd, as })).refused(wording);
        (await install(site, { cwd, as: 'owner' })).ok();
        await assertInstalled(cwd, secret);
      });
    },
  };
}
