// Runs the same scenario against every mode over every storage.
import { after, before, describe, it } from 'node:test';
import { startRegistry } from './registry.mjs';
import { missingRgw } from './s3.mjs';
import { sandbox } from './sandbox.mjs';

/** The variable narrows a run down, e.g. SMARTREGISTRY_TEST_STORAGES=local,rgw. */
const chosen = (variable, all) => process.env[variable]?.split(',').map((name) => name.trim()) ?? all;

const modes = chosen('SMARTREGISTRY_TEST_MODES', ['listener', 'express']);
// `npm test` adds Ceph's, which a single test file would have to start for itself.
const storages = chosen('SMARTREGISTRY_TEST_STORAGES', ['local', 'moto', 'smarts3']);

/** Why nothing can be tested over this storage, if so. */
const missing = (storage) => (storage === 'rgw' && process.env[missingRgw]) || false;

/** For what goes beyond the main paths: a folder and a bucket stand for all. */
export const few = ['local', 'moto'];

/** Of what a test names only what the run is narrowed down to. */
const storagesOf = ({ storages: own = storages }) => own.filter((name) => !process.env.SMARTREGISTRY_TEST_STORAGES || storages.includes(name));

/** Everybody's password; users are made afresh for each registry. */
export const password = 'correct-horse-7';

/**
 * @param {string} name of the client
 * @param {{ modes?: string[], storages?: string[], protocol: 'npm' | 'oci', config?: object, seconds?: number, setUp?: (site: object) => Promise<void>, tearDown?: (site: object) => Promise<unknown> }} options
 *   `config` adds to the registry's configuration, `seconds` limits each step, `setUp` prepares the client's configuration once per registry, `tearDown` ends what it started
 * @param {(step: (name: string, work: (site: object, t: import('node:test').TestContext) => Promise<void>) => void) => void} scenario
 *   declares the steps; they run one after another and build on each other
 */
export function matrix(name, options, scenario) {
  // While one client starts, and that is most of its time, another waits for its registry.
  describe(name, { concurrency: 2 }, () => {
    for (const mode of options.modes ?? modes) {
      for (const storage of storagesOf(options)) {
        describe(`${name}, ${mode}, ${storage}`, { concurrency: 1 }, () => site(name, mode, storage, options, scenario));
      }
    }
  });
}

/** One registry and the client that goes through the steps. */
function site(name, mode, storage, options, scenario) {
  const skip = missing(storage);
  if (skip) return scenario((title) => it(title, { skip }));
  const made = { name };
  before(() => prepare(made, mode, storage, options), { timeout: 120_000 });
  after(async () => {
    await options.tearDown?.(made);
    await made.registry?.stop();
    await made.box?.remove();
  });
  scenario((title, work) => {
    it(title, { timeout: (options.seconds ?? 180) * 1000 }, async (t) => {
      try {
        await work(made, t);
      } catch (error) {
        t.diagnostic(`the registry printed:\n${made.registry.log().slice(-2000)}`);
        throw error;
      }
    });
  });
}

async function prepare(site, mode, storage, { protocol, config, setUp }) {
  site.registry = await startRegistry(mode, storage, config);
  site.box = await sandbox(`${site.name}-${mode}-${storage}`);
  await site.registry.addUser('alice', password);
  site.token = await site.registry.createToken('alice', protocol);
  await setUp?.(site);
}
