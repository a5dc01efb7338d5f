// Tells whether what was built still matches the sources, by content: a fresh clone has new times and old content.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { root } from './paths.mjs';

/** SHA-256 over every file that goes into the addon. */
export async function hashOfSources() {
  const files = ['Cargo.toml', 'Cargo.lock', 'build.rs'].map((name) => join(root, name));
  for (const entry of await readdir(join(root, 'src'), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) files.push(join(entry.parentPath ?? entry.path, entry.name));
  }
  const hash = createHash('sha256');
  for (const file of files.sort()) {
    hash.update(`${relative(root, file)}\0`).update(createHash('sha256').update(await readFile(file)).digest());
  }
  return hash.digest('hex');
}
