// Installs Debian's packages. Only root can; others are told which package is missing.
import { existsSync, readdirSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run, StepError } from '../lib/run.mjs';

export async function installFromApt(pin) {
  if (fileOfApt(pin)) return;
  const packages = pin.package.split(' ');
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new StepError(`${pin.bin} is missing: install ${packages.join(' ')} with the package manager of this machine`);
  }
  await withoutServices(async () => {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const install = ['install', '--yes', '--quiet=2', '--no-install-recommends', ...packages];
    const first = await run('apt-get', install, { env, allowFailure: true });
    if (first.code === 0) return;
    // A new machine has no package lists, or old ones that name versions which are gone.
    await run('apt-get', ['update', '--quiet=2'], { env });
    await run('apt-get', install, { env });
  });
  if (!fileOfApt(pin)) throw new StepError(`${packages.join(' ')} was installed but has no ${pin.bin}`);
}

/** The tests start servers themselves, and leave none running: packages are told not to start theirs. */
async function withoutServices(work) {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return work();
  await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return await work();
  } finally {
    await rm(policy, { force: true });
  }
}

/** The file of an installed program, if it is. A `*` in its path stands for a version: the newest one there is. */
export function fileOfApt(pin) {
  const [before, after] = pin.bin.split('/*/');
  if (after === undefined) return existsSync(pin.bin) ? pin.bin : undefined;
  const versions = existsSync(before) ? readdirSync(before).sort((a, b) => Number(b) - Number(a)) : [];
  return versions.map((version) => join(before, version, after)).find(existsSync);
}
