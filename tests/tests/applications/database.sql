drop database if exists test;
create database test;
create or replace user test@127.0.0.1 identified by 'secret';
grant all on test.* to test@127.0.0.1;
use test;
create table articles (id int primary key, name varchar(80), words text);
create table visits (id int auto_increment primary key, page varchar(20));
insert into articles select seq, concat('article ', seq), repeat(sha1(seq), 10) from seq_1_to_200;
