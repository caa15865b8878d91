<?php
// A page of a small application: reads and writes the database over TCP, on a connection that lasts or on its own.
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$host = $_GET['connection'] === 'lasting' ? 'p:127.0.0.1' : '127.0.0.1';
$db = new mysqli($host, 'test', 'secret', 'test', (int) getenv('DB_PORT'));
$db->query('insert into visits (page) values ("' . $db->real_escape_string($_GET['connection']) . '")');
$statement = $db->prepare('select id, name, words from articles where id >= ? order by id limit 20');
$first = (int) ($_GET['first'] ?? 1);
$statement->bind_param('i', $first);
$statement->execute();
header('Content-Type: text/html');
echo "<h1>Articles</h1>\n";
foreach ($statement->get_result() as $row) {
    echo "<h2>{$row['id']} {$row['name']}</h2><p>", htmlspecialchars($row['words']), "</p>\n";
}
$large = $db->query('select id, sha2(words, 256) as hash, repeat(words, 5) as words from articles order by id');
$hash = hash_init('sha256');
foreach ($large as $row) {
    hash_update($hash, $row['hash'] . $row['words']);
}
echo '<p>', hash_final($hash), "</p>\n";
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    echo '<p>', hash('sha256', file_get_contents('php://input')), "</p>\n";
}
$db->close();
