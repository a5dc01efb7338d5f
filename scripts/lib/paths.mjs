// Where things are: the checkout, the cache outside of it, the addon and its name on this platform.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import platform from '../../js/platform.cjs';

export const { platforms, platformName } = platform;

/** Root of the checkout. */
export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Cache shared by all checkouts of this user. Everything in it can be deleted at any time. */
export const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'smartregistry-native');

/** Where cargo builds. A folder outside the checkout survives a fresh clone, and with it the minutes that a cold build takes. */
export const cargoTarget = process.env.CARGO_TARGET_DIR ? resolve(process.env.CARGO_TARGET_DIR) : join(cache, 'target');

/** The program of the command line. */
export const cli = join(root, 'bin', 'smartregistry-native.js');

/** The addon as the loader finds it in a checkout. */
export const addon = join(root, `smartregistry.${platformName()}.node`);

/** File name of the library that cargo builds, before it is copied to `addon`. */
export const cdylib = {
  linux: 'libsmartregistry_native.so',
  darwin: 'libsmartregistry_native.dylib',
  win32: 'smartregistry_native.dll',
}[process.platform];

/** True where the tests of the facade can run at all. */
export const hasFacade = () => existsSync(join(root, 'index.mjs')) && existsSync(cli);
