// The command line: what there is, what it takes, and what it says about itself.
'use strict';

const { Command, InvalidArgumentError, Option } = require('commander');
const { version } = require('../../package.json');
const { serve } = require('./serve.cjs');
const { addUser, createToken, listTokens, revokeToken } = require('./users.cjs');
const { purgeCache, warmCache } = require('./cache.cjs');
const { gc } = require('./gc.cjs');
const { importNpm, importOci } = require('./import.cjs');
const { stats, verify } = require('./verify.cjs');
const { UserError, DEFAULT_DATA, PROTOCOLS } = require('./config.cjs');

/** The command line was wrong. */
const USAGE = 2;
/** The command failed. */
const FAILED = 1;

function port(value) {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number > 65_535) throw new InvalidArgumentError('A port is a number from 0 to 65535.');
  return number;
}

const collect = (value, list = []) => [...list, value];

const withData = (command) =>
  command.option('--data <dir>', `folder with the registry's data (default: ${DEFAULT_DATA})`).option('--config <file>', 'configuration: a JSON file, or a module whose default export it is');

function program() {
  const root = new Command('smartregistry-native').description('Package registries over a folder or an S3 bucket.').version(version).exitOverride().showHelpAfterError('(--help shows what there is)');

  withData(root.command('serve').description('serve the registry until SIGTERM'))
    .option('--port <number>', 'port; 0 picks a free one', port, 5000)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .addHelpText('after', '\nOCI answers at /v2/, the others below their names: /npm, ...; health, readiness and metrics below /-/.')
    .action(serve);

  const user = root.command('user').description('manage users');
  withData(user.command('add').description('add a user, or give one a new password').argument('<name>')).option('--password-stdin', 'read the password from stdin').action(addUser);

  const token = root.command('token').description('manage tokens');
  withData(token.command('create').description('make a token and print it; it is not shown again'))
    .requiredOption('--user <name>', 'whose it is')
    .addOption(new Option('--protocol <name>', 'what it is for').choices(PROTOCOLS).makeOptionMandatory())
    .option('--readonly', 'let it only read')
    .option('--scope <scope>', 'what it may do, e.g. npm:package:@acme/*:write; may be repeated (default: everything of its protocol)', collect)
    .option('--expires <span>', 'when it ends, e.g. 30d (default: never)')
    .option('--name <text>', 'what to call it')
    .action(createToken);
  withData(token.command('list').description("show a user's tokens, without their texts")).requiredOption('--user <name>', 'whose').option('--json', 'as JSON').action(listTokens);
  withData(token.command('revoke').description('end a token').argument('<token-or-key>', 'the token, its key from `token list`, or - to read it from stdin')).option('--user <name>', 'whose it is, for a key').action(revokeToken);

  withData(root.command('gc').description('remove what nothing names any more; the registry may run meanwhile'))
    .option('--dry-run', 'only say what would be removed')
    .option('--json', 'the report as JSON')
    .addHelpText('after', '\nWhat goes is for the configuration to say: oci.gc and oci.retention. A process that serves does the same by itself once a day.')
    .action(gc);
  withData(root.command('verify').description('look whether all that metadata names is there and is what it should be'))
    .option('--shallow', 'look only whether objects are there, and read none of them')
    .option('--rebuild-index', 'first make the index of names, changes and searches anew')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nEnds with 1 if something is wrong, and with a line for each finding. The registry may run meanwhile.')
    .action(verify);
  withData(root.command('stats').description('count packages, repositories, objects and bytes')).option('--json', 'as JSON').action(stats);

  const cache = root.command('cache').description('what is kept of upstreams');
  withData(cache.command('purge').description('remove it; the registry may run meanwhile').argument('<protocol>').argument('[name]', 'only of this one (default: all)')).action(purgeCache);
  withData(cache.command('warm').description('fetch things ahead of the first who asks').argument('<protocol>').argument('<name...>', 'e.g. lodash@^4, or library/nginx:1.27')).action(warmCache);

  const imports = root.command('import').description('take over what another registry has; can be run again');
  withData(imports.command('npm').description('packages of an npm registry, or of the storage folder of a verdaccio').argument('<url-or-folder>'))
    .option('--package <name>', 'only this one; may be repeated (default: all)', collect)
    .option('--token-stdin', "read the source's token from stdin")
    .option('--as <user>', 'who imports, for owners that the source does not name', 'import')
    .option('--json', 'as JSON')
    .action(importNpm);
  withData(imports.command('oci').description('repositories of an OCI registry').argument('<url>'))
    .option('--repository <name>', 'only this one; may be repeated (default: all in the catalog)', collect)
    .option('--username <name>', 'who asks the source')
    .option('--password-stdin', 'read the password from stdin')
    .option('--as <user>', 'who imports', 'import')
    .option('--json', 'as JSON')
    .action(importOci);

  for (const group of [user, token, cache, imports]) group.exitOverride();
  return root;
}

/**
 * Runs the command line and gives the exit code.
 *
 * @param {string[]} argv
 */
async function main(argv) {
  try {
    await program().parseAsync(argv);
    return process.exitCode ?? 0;
  } catch (error) {
    // Commander has printed its own complaint, or the help that was asked for.
    if (typeof error.code === 'string' && error.code.startsWith('commander.')) return error.exitCode === 0 ? 0 : USAGE;
    const known = error instanceof UserError || typeof error.status === 'number';
    process.stderr.write(`error: ${known ? error.message : error.stack}\n`);
    if (known && error.cause) process.stderr.write(`  because: ${error.cause.message}\n`);
    return FAILED;
  }
}

module.exports = { main };
