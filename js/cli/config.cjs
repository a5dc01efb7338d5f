// What a command works on: `--data DIR`, `--config FILE`, or the default folder.
'use strict';

const { readFile } = require('node:fs/promises');
const { extname, resolve } = require('node:path');
const { pathToFileURL } = require('node:url');
const binding = require('../binding.cjs');

const DEFAULT_DATA = './registry-data';
const PROTOCOLS = ['oci', 'npm', 'maven', 'cargo', 'composer', 'pypi', 'rubygems'];

/** An error that says all a user needs: printed without a stack. */
class UserError extends Error {}

async function readConfig(file) {
  const path = resolve(file);
  if (['.js', '.mjs', '.cjs'].includes(extname(path))) {
    const module = await import(pathToFileURL(path).href).catch((error) => {
      throw new UserError(`cannot load the configuration ${file}: ${error.message}`);
    });
    const config = module.default ?? module.config;
    return typeof config === 'function' ? config() : config;
  }
  const text = await readFile(path, 'utf8').catch((error) => {
    throw new UserError(`cannot read the configuration ${file}: ${error.code === 'ENOENT' ? 'there is no such file' : error.message}`);
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`the configuration ${file} is no JSON: ${error.message}`);
  }
}

/**
 * The configuration of a command, completed: local storage, tokens kept in it, every protocol below its own name.
 *
 * @param {{ data?: string, config?: string }} options
 */
async function loadConfig({ data, config: file }) {
  const given = file === undefined ? {} : await readConfig(file);
  if (given === null || typeof given !== 'object' || Array.isArray(given)) throw new UserError(`the configuration ${file} is no object`);
  const config = { ...given };
  if (data !== undefined || config.storage === undefined) config.storage = { type: 'local', path: resolve(data ?? DEFAULT_DATA) };
  // Users and tokens that a command writes have to be seen by the running server.
  config.auth = { tokenStore: 'storage', ...config.auth };
  if (!PROTOCOLS.some((name) => config[name] !== undefined)) {
    for (const name of binding.protocolNames()) config[name] = { enabled: true, basePath: `/${name}` };
  }
  return config;
}

module.exports = { loadConfig, UserError, DEFAULT_DATA, PROTOCOLS };
