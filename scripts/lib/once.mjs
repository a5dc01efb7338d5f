// Things that are made once and kept: made in place, marked when complete, never made by two processes at a time.
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const MARK = '.complete';

/**
 * Makes `folder` with `make(folder)` unless a former call finished it. A folder left half-made by a killed process is made anew.
 *
 * @param {string} folder
 * @param {(folder: string) => Promise<void>} make
 * @returns {Promise<boolean>} whether `make` ran
 */
export async function once(folder, make) {
  const mark = join(folder, MARK);
  if (existsSync(mark)) return false;
  return locked(`${folder}.lock`, async () => {
    if (existsSync(mark)) return false;
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await make(folder);
    await writeFile(mark, '');
    return true;
  });
}

/** Runs `work` while holding the lock file `path`; the lock of a process that is gone is taken over. */
export async function locked(path, work) {
  await mkdir(dirname(path), { recursive: true });
  const mine = `${process.pid} ${randomUUID()}`;
  for (;;) {
    try {
      await writeFile(path, mine, { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = await readFile(path, 'utf8').catch(() => '');
    if (holder && !alive(Number(holder.split(' ')[0]))) {
      // Renaming is atomic: of several that see the dead holder one gets the file, the others find it gone.
      const dead = `${path}.${randomUUID()}`;
      await rename(path, dead).then(() => rm(dead), () => {});
      continue;
    }
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
