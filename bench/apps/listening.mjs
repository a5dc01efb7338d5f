// What every application here does in the end: listen on a free port and say so, stop on SIGTERM.

/**
 * @param {import('node:http').Server} server
 * @param {() => unknown} [stopped] runs when the last connection is gone
 */
export function listening(server, stopped) {
  server.listen(0, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
  process.on('SIGTERM', () => {
    server.close(() => stopped?.());
    server.closeAllConnections();
  });
}
