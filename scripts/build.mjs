// Builds the addon where it is missing or older than the sources, and puts it beside package.json.
// `node scripts/build.mjs [--profile dev|release-fast|release] [--force]`. Anything up to date is left alone.
//
// Profiles: `dev` builds in half the time and is what the tests use; `release-fast` is optimised without link-time optimisation and is what
// `npm start` builds; `release` is what the published packages carry. An addon of a better profile serves for a lesser one.
import { existsSync } from 'node:fs';
import { copyFile, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { addon, cargoTarget, cdylib, root } from './lib/paths.mjs';
import { locked } from './lib/once.mjs';
import { run, say, script, StepError } from './lib/run.mjs';
import { hashOfSources } from './lib/sources.mjs';

const profiles = ['dev', 'release-fast', 'release'];

/** What was built: `{ profile, sources }`. Lies beside the addon, written after it. */
const record = `${addon}.json`;

/**
 * Makes sure that the addon at the root of the checkout is built from the present sources with at least `profile`.
 *
 * @param {'dev' | 'release-fast' | 'release'} profile
 * @param {{ force?: boolean }} [options]
 */
export async function build(profile, { force = false } = {}) {
  if (!profiles.includes(profile)) throw new StepError(`no build profile is called ${profile}; there are ${profiles.join(', ')}`);
  // Two commands started at once must not copy over each other, and the second needs no build of its own.
  await locked(`${addon}.lock`, async () => {
    const sources = await hashOfSources();
    if (!force && (await upToDate(profile, sources))) return;
    await compile(profile);
    const built = join(cargoTarget, profile === 'dev' ? 'debug' : profile, cdylib);
    // A process may have the old file mapped: it keeps the old inode, and nobody ever sees half a file.
    const fresh = `${addon}.${process.pid}`;
    await copyFile(built, fresh);
    await rm(record, { force: true });
    await rename(fresh, addon);
    await writeFile(record, `${JSON.stringify({ profile, sources })}\n`);
  });
}

async function upToDate(profile, sources) {
  if (!existsSync(addon)) return false;
  const built = await readFile(record, 'utf8').then(JSON.parse, () => null);
  return built?.sources === sources && profiles.indexOf(built.profile) >= profiles.indexOf(profile);
}

async function compile(profile) {
  say(`building the addon (${profile}); the first time takes some minutes`);
  const env = { ...process.env, CARGO_TARGET_DIR: cargoTarget };
  // The allocator of the published packages, in tests too: one that failed when a thread ended was seen by nobody while they had another.
  const args = ['build', '--lib', '--locked', '--profile', profile, '--features', 'mimalloc'];
  // On a terminal cargo's own progress is the best there is; elsewhere only what went wrong is worth reading.
  await run('cargo', process.stderr.isTTY ? args : [...args, '--quiet'], { env, show: process.stderr.isTTY === true }).catch((error) => {
    if (!error.message.startsWith('cannot run')) throw error;
    throw new StepError('the addon is built with Rust, and there is no cargo command on this machine');
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const { values } = parseArgs({
      options: { profile: { type: 'string', default: 'release' }, force: { type: 'boolean', default: false } },
    });
    await build(values.profile, { force: values.force });
    say(`built ${addon.slice(root.length + 1)}`);
  });
}
